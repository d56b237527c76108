"""How far a fit is: a bar for each of its phases, with the time left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from skorch.callbacks import Callback

FIGURES = {
    "loss": ("train_loss", "{:.3f}"),
    "gap": ("running_gap", "{:.3f}"),
    "sparsity": ("sparsity", "{:.0%}"),
}
"""What is shown of an epoch, from which entry of the history, and how."""


class Bars:
    """The bars of one fit.

    Parameters
    ----------
    progress : rich.progress.Progress or None
        None shows nothing.
    """

    def __init__(self, progress: Progress | None):
        self._progress = progress

    def phase(self, name: str) -> PhaseBar | None:
        """Open the bar of a phase that is one training.

        Parameters
        ----------
        name : str

        Returns
        -------
        PhaseBar or None
            The callback of that training.
        """
        return self.phases(name, 1)[0]

    def phases(self, name: str, n: int) -> list[PhaseBar | None]:
        """Open one bar that several trainings share, one after another.

        Parameters
        ----------
        name : str
        n : int
            How many.

        Returns
        -------
        list of PhaseBar, or of None
            The callback of each.
        """
        if self._progress is None:
            return [None] * n
        task = self._progress.add_task(name, total=n, figures="")
        return [PhaseBar(self._progress, task, i) for i in range(n)]


class PhaseBar(Callback):
    """Move a bar with the epochs of a training.

    Parameters
    ----------
    progress : rich.progress.Progress
    task : int
        Which of its bars.
    place : int
        Which training of those that share it, counted from 0.
    """

    def __init__(self, progress: Progress, task: Any, place: int):
        self.progress = progress
        self.task = task
        self.place = place

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Move on by an epoch, and show its figures."""
        epochs, last = len(net.history), net.history[-1]
        shown = [f"epoch {epochs}/{net.max_epochs}"]
        for name, (entry, form) in FIGURES.items():
            if isinstance(last.get(entry), float):
                shown.append(f"{name} {form.format(last[entry])}")
        self.progress.update(
            self.task,
            completed=self.place + min(epochs / net.max_epochs, 1.0),
            figures="  ".join(shown),
        )

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """End where a training stopped early as well."""
        self.progress.update(self.task, completed=self.place + 1)


class Together(Callback):
    """Several callbacks of one training, as one.

    Parameters
    ----------
    callbacks : list of Callback
    """

    def __init__(self, callbacks: Sequence[Callback]):
        self.callbacks = callbacks

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_train_begin(net, **kwargs)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_epoch_begin(net, **kwargs)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_epoch_end(net, **kwargs)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_train_end(net, **kwargs)


def together(*callbacks: Callback | None) -> Callback | None:
    """Make one callback of several, of which some are none.

    Parameters
    ----------
    *callbacks : Callback or None

    Returns
    -------
    Callback or None
    """
    some = [callback for callback in callbacks if callback is not None]
    return Together(some) if len(some) > 1 else next(iter(some), None)


@contextmanager
def bars_of(verbose: int) -> Iterator[Bars]:
    """Show bars on stderr, or in a notebook, where ``verbose`` is 1 or more.

    Where stderr is no terminal, what the bars come to is written once, at the end.

    Parameters
    ----------
    verbose : int

    Yields
    ------
    Bars
    """
    if not verbose:
        yield Bars(None)
        return
    with _progress() as progress:
        yield Bars(progress)


@contextmanager
def counting(name: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show one bar on stderr that counts what is done.

    Parameters
    ----------
    name : str
        Of what is counted.
    total : int
    shown : bool

    Yields
    ------
    callable
        To be called with a remark each time that one more is done.
    """
    with _progress(disable=not shown) as progress:
        task = progress.add_task(name, total=total, figures="")
        done = itertools.count(1)

        def moved(remark: str) -> None:
            n = next(done)
            figures = f"{n}/{total}  {remark}".rstrip()
            progress.update(task, completed=n, figures=figures)

        yield moved


def _progress(**options: Any) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, console=Console(stderr=True), **options)
