"""Forms of a pruned network that predict faster, where there is one."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from fairprune_sk.networks.calls import forward, watching

# A form that is a little faster in one measurement may be slower in the next.
_WORTH_IT = 1.1


class SparseLinear(nn.Module):
    """A linear layer that stores and multiplies its non-zero weights only (CSR), on a CPU.

    Parameters
    ----------
    linear : nn.Linear
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its CSR tensors a beta feature
            self.register_buffer("weight", linear.weight.detach().to_sparse_csr())
        bias = linear.bias if linear.bias is not None else torch.zeros(linear.out_features)
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, X: Tensor) -> Tensor:
        """Apply the layer to inputs of shape (n, in_features)."""
        return (self.weight @ X.t()).t() + self.bias


def fastest_form(network: nn.Module, X: Any, *, seconds: float = 0.05) -> nn.Module:
    """Choose, by measurement, between dense and sparse multiplication for each linear layer.

    Multiplying by single weights pays at high sparsities and for wide layers, and not everywhere:
    each layer is timed in both forms on the inputs that it gets, and then the whole network.

    Parameters
    ----------
    network : nn.Module
        On the CPU, with linear layers that read matrices. It is not changed.
    X : Tensor of shape (n, ...), or dict of them
        Rows in a number as it will be used: the choice holds for batches of about this size.
    seconds : float
        For each measurement.

    Returns
    -------
    nn.Module
        A copy with :class:`SparseLinear` layers where they are at least a tenth faster, and a
        plain copy where none is.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.export import fastest_form
    >>> network = torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.ReLU())
    >>> X = torch.rand(8, 300)
    >>> with torch.no_grad():
    ...     network[0].weight *= torch.rand(200, 300) < 0.01
    >>> bool(torch.allclose(fastest_form(network, X)(X), network(X), atol=1e-5))
    True
    """
    fast = copy.deepcopy(network).eval()
    inputs: dict[nn.Module, Tensor] = {}
    layers = {name: m for name, m in fast.named_modules() if isinstance(m, nn.Linear)}
    with torch.no_grad():
        with watching(layers.values(), lambda layer, args: inputs.update({layer: args[0]})):
            forward(fast, X)
        for name, layer in layers.items():
            if layer not in inputs or inputs[layer].ndim != 2:
                continue
            sparse = SparseLinear(layer)
            gain = _time(layer, inputs[layer], seconds) / _time(sparse, inputs[layer], seconds)
            if gain >= _WORTH_IT:
                parent = fast.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], sparse)
        plain = copy.deepcopy(network).eval()
        if _time(plain, X, seconds) < _WORTH_IT * _time(fast, X, seconds):
            return plain
    return fast


def _time(network: nn.Module, X: Any, seconds: float) -> float:
    timer = Timer("forward(network, X)", globals={"forward": forward, "network": network, "X": X})
    return timer.blocked_autorange(min_run_time=seconds).median


def semi_structured(network: nn.Module, dtype: torch.dtype = torch.float16) -> nn.Module:
    """Convert the linear layers that have a 2:4 pattern to torch's semi-structured layout.

    Parameters
    ----------
    network : nn.Module
        On a CUDA device of compute capability 8.0 or later. It is not changed.
    dtype : torch.dtype
        Of the weights: the hardware multiplies float16 and bfloat16 in this layout.

    Returns
    -------
    nn.Module
        A copy in that dtype.

    Raises
    ------
    ValueError
        If there is no such device, or no layer that fits.

    References
    ----------
    Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378.
    """
    device = next(network.parameters()).device
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(
            f"Got a network on {device}, but the semi-structured layout needs a CUDA device of "
            "compute capability 8.0 or later."
        )
    converted = copy.deepcopy(network).to(dtype).eval()
    n_converted = 0
    for layer in converted.modules():
        if isinstance(layer, nn.Linear) and has_pattern(layer.weight):
            layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(layer.weight))
            n_converted += 1
    if not n_converted:
        raise ValueError(
            "Got a network without a linear layer in a 2:4 pattern of a fitting size: prune with "
            "granularity='2:4', and widths that 64 divides."
        )
    return converted


def has_pattern(weight: Tensor) -> bool:
    """Whether a weight has at most 2 non-zeros in each 4, and a size that the hardware takes."""
    if weight.shape[0] % 32 or weight.shape[1] % 64:
        return False
    return bool(((weight != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all())
