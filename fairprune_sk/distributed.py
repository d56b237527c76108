"""One fit on several processes: each holds a share of the rows, and sums go over all of them.

Everything that adds up rows asks the :class:`World` of the fit: :func:`over_processes` for sums
that lead to a rate, a mean or a gradient, :meth:`World.gathered` for what must be known whole. For
one process both are the identity, so that no other code asks how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["World", "data_parallel"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes that share the rows of one fit.

    Attributes
    ----------
    rank : int
        Number of this process.
    size : int
        How many there are.
    host : ProcessGroup or None
        For what is on the CPU, whatever connects the devices.
    """

    rank: int = 0
    size: int = 1
    host: Any = None

    def summed(self, value: Any) -> Any:
        """Sum of a tensor or number over the processes; the same bits on each of them."""
        if self.size == 1:
            return value
        if not isinstance(value, Tensor):
            kind = torch.int64 if isinstance(value, int | np.integer) else torch.float64
            return self.summed(torch.tensor(value, dtype=kind)).item()
        total = value.detach().clone()
        dist.all_reduce(total, group=self.host if total.device.type == "cpu" else None)
        return total

    def gathered(self, value: Value) -> list[Value]:
        """Return what each process has, by rank: any object that can be pickled."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.host)
        return found

    def gathered_on(self, rank: int, value: Value) -> list[Value]:
        """Return to one process what each has; to the others an empty list."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if rank == self.rank else None
        # By its number in the group, which may be of a part of all processes.
        dist.gather_object(value, found, group=self.host, group_dst=rank)
        return found or []

    def of_first(self, value: Value) -> Value:
        """Return what the first process has."""
        if self.size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found, group=self.host, group_src=0)
        return found[0]

    def whole(self, rows: Any) -> Any:
        """Stack the rows of all processes, in the order of the ranks."""
        if self.size == 1 or rows is None:
            return rows
        return _stacked(self.gathered(rows if _is_known(rows) else np.asarray(rows)))

    def span(self, n: int) -> slice:
        """Where this process's n rows are among those of all."""
        if self.size == 1:
            return slice(None)
        before = [0, *np.cumsum(self.gathered(n)).tolist()]
        return slice(before[self.rank], before[self.rank + 1])

    def share(self, n: int) -> slice:
        """Rows of a table of n rows that this process takes, where each could read all of them.

        Parameters
        ----------
        n : int

        Returns
        -------
        slice
            Of one row more or less than those of the other processes.

        Examples
        --------
        >>> World(rank=1, size=3).share(10)
        slice(3, 6, None)
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)


ONE = World()
_available: ContextVar[World] = ContextVar("available", default=ONE)
_current: ContextVar[World] = ContextVar("current", default=ONE)


@contextmanager
def data_parallel() -> Iterator[World]:
    """Let fits within this block share their rows with the other processes of ``torchrun``.

    Every process calls ``fit`` with rows of its own, and the estimators are the same afterwards on
    each: those that one process would have got from all rows, stacked in the order of the ranks,
    within the error of floating-point sums. Nothing else in the block is shared: ``predict`` and
    reports work on the rows that they are given, on any process alone.

    Processes are connected by NCCL where there are GPUs, otherwise by gloo, unless
    ``torch.distributed`` is initialised already.

    Yields
    ------
    World
        Whose ``rank`` and ``size`` say which process this is, and ``share(n)`` which rows of a
        table of n are its own.

    Raises
    ------
    RuntimeError
        If the process was not started by ``torchrun``, and nothing is initialised.

    Examples
    --------
    A script for ``torchrun --nproc-per-node=4``; by itself it is one process of one:

    >>> import tempfile
    >>> import torch.distributed as dist
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> from fairprune_sk.distributed import data_parallel
    >>> store = dist.FileStore(tempfile.mktemp(), 1)  # torchrun does this
    >>> dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    >>> X, y, s = make_biased_classification(500, random_state=0)
    >>> pruner = FairPruner(tolerance=0.5, tolerance_on="training", max_epochs=2, random_state=0)
    >>> with data_parallel() as world:
    ...     mine = world.share(len(X))
    ...     _ = pruner.fit(X[mine], y[mine], sensitive_features=s["sex"][mine])
    >>> dist.destroy_process_group()
    """
    begun = not dist.is_initialized()
    if begun:
        if not dist.is_torchelastic_launched():
            raise RuntimeError(
                "Got data_parallel() in a process that torchrun did not start, but expected "
                "`torchrun --nproc-per-node=N script.py`, or an initialised torch.distributed."
            )
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    host = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    token = _available.set(World(dist.get_rank(), dist.get_world_size(), host))
    try:
        yield _available.get()
    except BaseException:
        begun = False  # the others wait in a collective, and must see this process end
        raise
    finally:
        _available.reset(token)
        if begun:
            dist.destroy_process_group()


def available() -> World:
    """World that a fit which begins now takes part in."""
    return _available.get()


def world() -> World:
    """World of the fit that is running."""
    return _current.get()


@contextmanager
def taking_part() -> Iterator[World]:
    """Make the available world that of a fit, for a while."""
    token = _current.set(available())
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def over_processes(sums: Value) -> Value:
    """Add up sums over the rows of this process and the others.

    Every sum over rows that leads to a rate, a mean or a weight goes through here. A derivative
    goes to this process's rows only: those of all processes are summed where they are gradients.

    Parameters
    ----------
    sums : Tensor, float or int
    """
    if isinstance(sums, Tensor) and sums.requires_grad:
        return _OverProcesses.apply(sums) if world().size > 1 else sums
    return world().summed(sums)


def gradients_over_processes(gradients: list[Tensor]) -> list[Tensor]:
    """Add up gradients in one message.

    Parameters
    ----------
    gradients : list of Tensor

    Returns
    -------
    list of Tensor
    """
    if world().size == 1:
        return gradients
    total = world().summed(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = total.split([gradient.numel() for gradient in gradients])
    return [part.view_as(own) for part, own in zip(parts, gradients, strict=True)]


class _OverProcesses(torch.autograd.Function):
    """Sum over the processes whose derivative is that of the own summand."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: D102
        return world().summed(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: D102
        return gradients[0]


def align_generators(device: torch.device) -> None:
    """Let torch's generators go on from where those of the first process are.

    They part where a network draws numbers for rows, of which each process has others.
    """
    if world().size == 1:
        return
    torch.set_rng_state(world().of_first(torch.get_rng_state()))
    if device.type == "cuda":
        torch.cuda.set_rng_state(world().of_first(torch.cuda.get_rng_state(device)), device)


def _is_known(rows: Any) -> bool:
    return isinstance(rows, np.ndarray | pd.DataFrame | pd.Series | Mapping)


def _stacked(parts: list[Any]) -> Any:
    if isinstance(parts[0], pd.DataFrame | pd.Series):
        return pd.concat(parts, ignore_index=True)
    if isinstance(parts[0], Mapping):
        return {name: _stacked([np.asarray(part[name]) for part in parts]) for name in parts[0]}
    return np.concatenate(parts)
