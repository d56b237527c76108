"""From a masked network to a plain one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def compact(module: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    """Copy a module with its masks burnt into the weights.

    Parameters
    ----------
    module : nn.Module
    masks : dict of Tensor, bool
        Mask of each pruned parameter, by the parameter's name; True keeps.

    Returns
    -------
    nn.Module
        A plain module in evaluation mode: no hooks, no renamed parameters.
    """
    network = copy.deepcopy(module)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask.to(parameters[name].device))
    return network.eval()


def reached_sparsity(masks: dict[str, Tensor]) -> float:
    """Fraction of the prunable weights that the masks remove."""
    n_weights = sum(mask.numel() for mask in masks.values())
    return 1.0 - sum(int(mask.sum()) for mask in masks.values()) / n_weights
