"""Tables whose rows stay on one device, or are read from disk, batch by batch."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fairprune_sk.distributed import align_generators, world
from fairprune_sk.networks.batch import Batch, streams

# Rows that are evaluated together, few enough for the cache of a processor.
EVALUATION_ROWS = 2048


# Rows of a large table that are shuffled at a time, and that lie side by side in it.
SHUFFLED_ROWS, SIDE_BY_SIDE = 2**20, 2**10


# Batches of an epoch of a large table: there, steps are what a training needs, not passes.
MOST_BATCHES = 512


def batches_of(n: int, batch_size: int, most: int | None = MOST_BATCHES) -> int:
    """Batches of an epoch of n rows."""
    n_batches = -(-n // batch_size)
    return n_batches if most is None else min(n_batches, most)


def shuffled(n: int, device: torch.device) -> Tensor:
    """Draw a random order of n rows.

    Of a large table, some runs of rows that lie side by side are drawn and shuffled at a time: one
    that is on disk is read here and there, not everywhere at once.

    Parameters
    ----------
    n : int
    device : torch.device

    Returns
    -------
    Tensor of shape (n,), int64
    """
    if n <= SHUFFLED_ROWS:
        return torch.randperm(n, device=device)
    runs = torch.randperm(-(-n // SIDE_BY_SIDE), device=device) * SIDE_BY_SIDE
    order = (runs[:, None] + torch.arange(SIDE_BY_SIDE, device=device)).flatten()
    order = order[order < n]
    for part in order.split(SHUFFLED_ROWS):
        part.copy_(part[torch.randperm(len(part), device=device)])
    return order


@dataclass(frozen=True)
class Spread:
    """How the rows of a table are spread over processes, in the order of their ranks.

    Attributes
    ----------
    first : int
        Place of this process's first row among the rows of all.
    n_whole : int
        Rows of all processes.
    most : int
        Rows of the process that has most.
    """

    first: int
    n_whole: int
    most: int


class ResidentTable(torch.utils.data.Dataset):
    """A table whose columns are tensors on one device.

    Parameters
    ----------
    rows : Batch
        All of them.
    """

    # Rows that are evaluated together, few enough for the cache of a processor.
    evaluation_rows = EVALUATION_ROWS

    spread: Spread | None = None
    """How the rows of all processes are spread, where other processes have more of them."""

    def __init__(self, rows: Batch):
        self.rows = rows

    @property
    def n_whole(self) -> int:
        """Rows of all processes."""
        return len(self) if self.spread is None else self.spread.n_whole

    def __len__(self) -> int:
        return len(self.rows)

    def knowing(self, **columns: Any) -> ResidentTable:
        """Return a table of the same rows, of which more is known."""
        table = copy.copy(self)
        table.rows = replace(self.rows, **columns)
        return table

    def expecting(self, chance: Tensor | None) -> ResidentTable:
        """Return the same with what :func:`unseen.chances` gives for its rows, on its device."""
        return self if chance is None else self.knowing(chance=chance.to(self.device))

    @property
    def X(self) -> Any:
        """What the network reads; skorch looks for it here."""
        return self.rows.X

    @property
    def y(self) -> Any:
        """Class codes; skorch looks for them here."""
        return self.rows.y

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        X = self.rows.X
        return next(iter(X.values())).device if isinstance(X, Mapping) else X.device

    def take(self, index: Any) -> Batch:
        """Rows by slice or positions."""
        return self.rows.take(index)

    __getitem__ = take

    def batches(self, indices: Iterable[Any]) -> Iterator[Batch]:
        """Rows of several indices, one after the other."""
        return map(self.take, indices)


class StreamedTable(ResidentTable):
    """A table whose X stays on disk, and whose other columns are tensors on one device.

    Parameters
    ----------
    rows : Batch
        Its X an ``ImageFiles``, or another object with ``shape``, ``read()`` and rows by index.
    device : torch.device
    """

    n_threads = min(8, os.cpu_count() or 1)
    evaluation_rows = 256

    def __init__(self, rows: Batch, device: torch.device):
        super().__init__(rows)
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self._device

    def take(self, index: Any) -> Batch:
        """Rows by slice or positions; only theirs are read."""
        with ThreadPoolExecutor(self.n_threads) as pool:
            return self._take(index, pool)

    __getitem__ = take

    def _take(self, index: Any, pool: ThreadPoolExecutor) -> Batch:
        X = self.rows.X[index.cpu().numpy() if isinstance(index, Tensor) else index]
        pixels = torch.empty(X.shape, pin_memory=self._device.type == "cuda")

        def read(start: int) -> None:
            pixels.numpy()[start : start + 32] = X[start : start + 32].read()

        for _ in pool.map(read, range(0, len(X), 32)):
            pass  # an error of a thread is raised here
        pixels = pixels.to(self._device, non_blocking=True)
        return replace(replace(self.rows, X=self._nothing).take(index), X=pixels)

    # What is known of the rows is taken without what the network reads.
    _nothing: Mapping[str, Any] = {}

    def batches(self, indices: Iterable[Any]) -> Iterator[Batch]:
        """Rows of several indices; the next ones are decoded while the last ones are used."""
        with ThreadPoolExecutor(self.n_threads) as pool, ThreadPoolExecutor(1) as ahead:
            coming = deque[Future]()
            for index in indices:
                coming.append(ahead.submit(self._take, index, pool))
                if len(coming) == 2:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()


def table_of(rows: Batch, device: torch.device) -> ResidentTable:
    """Table of the rows: on the device as a whole, or streamed to it where X is read row by row."""
    if not streams(rows.X):
        return ResidentTable(rows.to(device))
    known = replace(rows, X=StreamedTable._nothing).to(device)
    return StreamedTable(replace(known, X=rows.X), device)


def spread_table_of(rows: Batch, device: torch.device) -> ResidentTable:
    """Table of the rows that a fit learns from, of which other processes may have more."""
    table = table_of(rows, device)
    if world().size > 1:
        counts = world().gathered(len(rows))
        table.spread = Spread(sum(counts[: world().rank]), sum(counts), max(counts))
    return table


class ResidentIterator:
    """Batches of a :class:`ResidentTable`: slices in order, or of a random permutation.

    All batches of an epoch have the same size, up to one row: group rates, and steps of equal
    length, want no small rest at the end.

    Where the rows are spread over processes, all draw the same permutation of all rows, and each
    takes its own of every batch: together they see the batches of one process. In order, each goes
    through its rows in as many batches as the others.

    Parameters
    ----------
    dataset : ResidentTable
    batch_size : int
        Largest size of a batch.
    shuffle : bool
    most : int, optional
        Batches of an epoch at most; other rows are then left to other epochs.
    """

    def __init__(
        self,
        dataset: ResidentTable,
        batch_size: int,
        shuffle: bool = False,
        most: int | None = None,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.most = most

    def __len__(self) -> int:
        spread = self.dataset.spread
        n = len(self.dataset)
        if spread is not None:
            n = spread.n_whole if self.shuffle else spread.most
        return batches_of(n, self.batch_size, self.most)

    def _bounds(self, n: int) -> list[int]:
        """Where the batches of n rows begin, and the last of them ends."""
        whole = max(-(-n // self.batch_size), 1)
        return [n * i // max(whole, len(self)) for i in range(max(len(self), 1) + 1)]

    def __iter__(self) -> Iterator[Batch]:
        if self.dataset.spread is not None and self.shuffle:
            yield from self._shares(self.dataset.spread)
            return
        n = len(self.dataset)
        order = shuffled(n, self.dataset.device) if self.shuffle else None
        bounds = self._bounds(n)
        parts = map(slice, bounds[:-1], bounds[1:])
        yield from self.dataset.batches(parts if order is None else (order[p] for p in parts))

    def _shares(self, spread: Spread) -> Iterator[Batch]:
        """Own rows of the batches of all processes."""
        device, n = self.dataset.device, spread.n_whole
        align_generators(device)
        order = shuffled(n, device) - spread.first
        places = ((order >= 0) & (order < len(self.dataset))).nonzero().flatten()
        own = order[places]
        bounds = self._bounds(n)
        # One wait for the device in an epoch: how many rows of each batch are here.
        cuts = torch.searchsorted(places, torch.tensor(bounds, device=device)).tolist()
        parts = [slice(*ends) for ends in zip(cuts[:-1], cuts[1:], strict=True)]
        batches = self.dataset.batches(own[part] for part in parts)
        for batch, part, first, last in zip(batches, parts, bounds[:-1], bounds[1:], strict=True):
            yield replace(batch, place=places[part] - first, n_whole=last - first)
