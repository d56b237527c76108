"""Derivatives of the loss over the training table, for solvers that rank weights by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fairprune_sk.distributed import over_processes
from fairprune_sk.networks.calls import evaluating
from fairprune_sk.solvers.base import Problem


def loss_gradients(
    problem: Problem,
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    group: int | None = None,
) -> dict[str, Tensor]:
    """Gradient of the mean loss over the training table, or over the rows of one group.

    Parameters
    ----------
    problem : Problem
    parameters, buffers : dict of Tensor
        Of the network, in evaluation mode.
    group : int, optional
        Code of the group.

    Returns
    -------
    dict of Tensor
        Of the parameters' shapes.
    """

    def gradients(loss: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, leaves, materialize_grads=True)

    return mean_over_rows(problem, parameters, buffers, gradients, group)


def hessian_gradient(
    problem: Problem,
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    gradients: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Hessian of the mean loss over the training table times a vector.

    Parameters
    ----------
    problem : Problem
    parameters, buffers : dict of Tensor
        Where the Hessian is taken.
    gradients : dict of Tensor
        The vector, such as the gradient there.

    Returns
    -------
    dict of Tensor
    """

    def along(loss: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        products = [(g * gradients[n]).sum() for n, g in zip(parameters, first, strict=True)]
        return torch.autograd.grad(torch.stack(products).sum(), leaves, materialize_grads=True)

    return mean_over_rows(problem, parameters, buffers, along)


def mean_over_rows(
    problem: Problem,
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    derivative: Callable[[Tensor, list[Tensor]], tuple[Tensor, ...]],
    group: int | None = None,
) -> dict[str, Tensor]:
    """Mean over the rows of the training table, or of one group, of a derivative of the loss.

    Parameters
    ----------
    problem, parameters, buffers, group
        As for :func:`loss_gradients`.
    derivative : callable
        From the summed loss of a batch, and the parameters, to one tensor for each of them.

    Returns
    -------
    dict of Tensor
        Of the parameters' shapes.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    total = {name: torch.zeros_like(value) for name, value in leaves.items()}
    n_rows = 0
    with evaluating(problem.module), torch.enable_grad():
        for batch in problem.batches():
            if group is not None:
                assert batch.group is not None
                batch = batch.take((batch.group == group).nonzero().flatten())
            size = len(batch)
            if not size:
                continue
            _, loss = problem.evaluate({**leaves, **buffers}, batch)
            parts = derivative(loss * size, [*leaves.values()])
            for name, part in zip(leaves, parts, strict=True):
                total[name] += part
            n_rows += size
    n_rows = max(over_processes(n_rows), 1)
    return {name: over_processes(value) / n_rows for name, value in total.items()}
