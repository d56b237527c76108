"""What a network costs: its size, its arithmetic, its measured time; dense against pruned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from fairprune_sk.archive import compressed, network_tensors
from fairprune_sk.export.traced import example_inputs
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.fitting.outputs import device_of
from fairprune_sk.networks.batch import on_device
from fairprune_sk.networks.calls import evaluating, forward


@dataclass(frozen=True, eq=False, repr=False)
class CostReport:
    """What :func:`cost_report` measured: print it, or read its table.

    Attributes
    ----------
    table : DataFrame
        Rows ``dense`` and ``pruned``. Columns: ``parameters``, biases and normalisation included,
        and ``nonzero_parameters``; ``bytes`` of parameters and buffers as safetensors, and
        ``compressed_bytes`` in a file of ``save``; ``multiply_adds`` for one row, and
        ``nonzero_multiply_adds``, without those of weights that are zero; for each batch size
        ``latency_ms_<size>``, median time of a forward pass, and ``throughput_<size>``, rows per
        second.
    device : str
    n_threads : int
    """

    table: pd.DataFrame
    device: str
    n_threads: int

    @property
    def ratios(self) -> pd.Series:
        """How many times smaller or faster the pruned network is, by column of the table."""
        dense, pruned = self.table.loc["dense"], self.table.loc["pruned"]
        faster = self.table.columns.str.startswith("throughput")
        return (dense / pruned).where(~faster, pruned / dense)

    def __repr__(self) -> str:
        """Return the printed report, so that a console shows it."""
        return str(self)

    def __str__(self) -> str:
        """Lay out the report for a terminal."""
        return f"{self._title()}\n{self._shown().to_string()}"

    def _repr_html_(self) -> str:
        """Lay out the report for a notebook."""
        return f"<p><strong>{self._title()}</strong></p>{self._shown().to_html(border=0)}"

    def _title(self) -> str:
        threads = f"{self.n_threads} thread" + "s" * (self.n_threads != 1)
        return f"Cost of the network, without encoding the table ({self.device}, {threads})"

    def _shown(self) -> pd.DataFrame:
        shown = self.table.filter(regex="^(?!throughput)").T.map(_number)
        shown["dense / pruned"] = [f"{self.ratios[name]:.1f}×" for name in shown.index]
        return shown.rename(index=_label)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def _label(name: str) -> str:
    if (size := name.rpartition("_")[2]).isdigit():
        return f"ms for {int(size):,} row" + "s" * (size != "1")
    return name.replace("_", " ")


def cost_report(
    fitted: Fitted,
    X: Any = None,
    *,
    batch_sizes: Sequence[int] = (1, 64, 4096),
    n_threads: int = 1,
    min_run_time: float = 0.2,
) -> CostReport:
    """Measure the pruned network and the dense one, on the device of the pruned one.

    Parameters
    ----------
    fitted : Fitted
    X : as for ``predict``, checked, optional
        Rows to measure on, repeated where a batch needs more. Random ones by default; needed
        where the network takes no matrix.
    batch_sizes : sequence of int
        Rows of the forward passes that are timed.
    n_threads : int
        Threads of each on a CPU.
    min_run_time : float
        Seconds of timing for each network and batch size.

    Returns
    -------
    CostReport

    Raises
    ------
    ValueError
        If X is needed, or a batch size is not positive.

    Notes
    -----
    Counted is what ``torch.utils.flop_counter`` knows: convolutions and matrix products, no
    elementwise arithmetic. The networks take turns in the timing (``torch.utils.benchmark``), so
    that a disturbance meets both.
    """
    if any(size < 1 for size in batch_sizes):
        raise ValueError(f"Got batch_sizes={batch_sizes!r}, but expected positive integers.")
    fitted.check_whole("cost_report")
    device = device_of(fitted.network)
    networks = {
        "dense": copy.deepcopy(fitted.dense_module).to(device).eval(),
        "pruned": copy.deepcopy(fitted.network).eval(),
    }
    few = on_device(example_inputs(fitted, X, 2), device)
    costs = {name: _size(module) | _arithmetic(module, few, 2) for name, module in networks.items()}
    for size in batch_sizes:
        inputs = on_device(example_inputs(fitted, X, size), device)
        times: dict[str, list[float]] = {name: [] for name in networks}
        for name, network in 3 * list(networks.items()):
            times[name] += _times(network, inputs, n_threads, min_run_time / 3)
        for name, cost in costs.items():
            seconds = float(np.median(times[name]))
            cost[f"latency_ms_{size}"] = 1e3 * seconds
            cost[f"throughput_{size}"] = size / seconds
    table = pd.DataFrame.from_dict(costs, orient="index")
    return CostReport(table, str(device), n_threads)


def _size(network: nn.Module) -> dict[str, float]:
    content = tensors_to_bytes(network_tensors(network))
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "nonzero_parameters": sum(int(p.count_nonzero()) for p in network.parameters()),
        "bytes": len(content),
        "compressed_bytes": len(compressed({"": content})),
    }


def _arithmetic(network: nn.Module, X: Any, n_rows: int) -> dict[str, float]:
    """Multiply-adds of a row, with and without those of weights that are zero."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def is_weight(value: Tensor) -> bool:
        return value.numel() > 0 and value.untyped_storage().data_ptr() in own

    def without_zeros(formula: Callable[..., int]) -> Callable[..., float]:
        def count(*args: Any, **kwargs: Any) -> float:
            n_operations: float = formula(*args, **kwargs)
            for arg in args:
                if isinstance(arg, Tensor) and arg.ndim > 1 and is_weight(arg):
                    n_operations *= int(arg.count_nonzero()) / arg.numel()
            return n_operations

        count._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes
        return count

    mapping = {operator: without_zeros(formula) for operator, formula in flop_registry.items()}
    counts = {}
    for name, formulas in (("multiply_adds", None), ("nonzero_multiply_adds", mapping)):
        with evaluating(network), FlopCounterMode(display=False, custom_mapping=formulas) as mode:
            forward(network, X)
        counts[name] = round(mode.get_total_flops() / 2 / n_rows)
    return counts


def _times(network: nn.Module, X: Any, n_threads: int, min_run_time: float) -> list[float]:
    names = {"forward": forward, "network": network, "X": X}
    timer = Timer("forward(network, X)", globals=names, num_threads=n_threads)
    with torch.inference_mode():
        return timer.blocked_autorange(min_run_time=min_run_time).times
