"""Where a fit stands, in a file without code: one that was killed goes on from there.

A fit is a row of trainings: a dense phase and a pruning, and between them, with
``tolerance_on="unseen"`` and what is no table, a dense phase on each half of the rows. All that is
random in it comes from one seed, so what lies between the trainings is simply done again. Of a
training, its last state is kept: tensors, optimisers, random generators, history, and what its
callbacks have counted.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor, nn

from fairprune_sk.archive import as_json, from_json, is_ours, naming, read_file, write_file
from fairprune_sk.exceptions import warn_at_caller
from fairprune_sk.networks.calls import plain

WAIT = 10.0
"""Times of the last write that pass before the next: so writing takes about a tenth of a fit."""


class Checkpoint:
    """The file of one fit.

    It is read once, when the fit begins, and written as a whole each time: beside what is there
    first, then in its place. When the fit has ended it stays, marked as finished part by part: a
    process that is killed before it has used the result finds it there.

    Parameters
    ----------
    path : str or path
    identity : str
        Digest of all that decides what comes out of the fit.
    seed : int
        Of a new fit; a fit that goes on has the one that it began with.
    hint : str
        Why it may be another fit than the user thinks.

    Raises
    ------
    ValueError
        If there is a file that is no checkpoint, or nothing can be written there.

    Warns
    -----
    UserWarning
        If the file is of another fit, or was damaged: the fit starts afresh.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str, seed: int, hint: str = ""):
        self.path, self.identity, self.seed = Path(path), identity, seed
        self.parts: dict[str, Any] = {}
        self._next_write = 0.0
        self._told = False
        found = self._read(hint)
        if found is None:
            try:
                self._write()
            except OSError as error:
                raise ValueError(
                    f"Got checkpoint={str(path)!r}, but nothing can be written there: {error}."
                ) from error
        else:
            self.seed, self.parts = found["seed"], found["parts"]

    def _read(self, hint: str) -> dict[str, Any] | None:
        """Read what is known of this very fit; None if nothing is."""
        path = self.path
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(f"Got checkpoint={str(path)!r}, which is no file: {error}.") from error
        if not content:
            return None
        refusal = ValueError(
            f"Got checkpoint={str(path)!r}, but the file there is no checkpoint: pass a path of "
            "its own, where a file may be written."
        )
        if not is_ours(content):
            raise refusal
        why = "is of a fit of other data or settings, or of another version"
        try:
            found = from_json(*read_file(path))
            if found.keys() != {"checkpoint", "seed", "parts"}:
                raise refusal
            if found["checkpoint"] == self.identity:
                return found
        except Exception as error:
            if error is refusal:
                raise
            why = f"cannot be read ({error})"
        warn_at_caller(
            f"Got checkpoint={str(path)!r}, which {why}: this fit starts afresh, and takes its "
            f"place.{hint}",
            UserWarning,
        )
        return None

    def _write(self) -> None:
        state = {"checkpoint": self.identity, "seed": self.seed, "parts": self.parts}
        tensors: dict[str, Tensor] = {}
        data = as_json(state, tensors)
        write_file(self.path, data, tensors, compression=zipfile.ZIP_STORED)

    @property
    def is_due(self) -> bool:
        """Whether so much time has passed since the last write that the next one is worth it."""
        return time.perf_counter() >= self._next_write

    def keep(self, name: str, saved: Any) -> None:
        """Write a part of the fit, in the place of what it was before, and of parts within it.

        A write that fails leaves the last one: the fit goes on, with a warning.

        Parameters
        ----------
        name : str
        saved : Any
            Data: numbers, strings, tensors, and dicts and lists of them.

        Raises
        ------
        ValueError
            If it is no data; then nothing has changed.
        """
        began, before = time.perf_counter(), self.parts
        self.parts = {n: part for n, part in self.parts.items() if not n.startswith(f"{name}/")}
        self.parts[name] = saved
        try:
            self._write()
        except OSError as error:
            if not self._told:
                warn_at_caller(
                    f"The checkpoint {str(self.path)!r} could not be written: {error}. The fit "
                    "goes on; what was written last is still there.",
                    UserWarning,
                )
            self._told = True
        except ValueError:  # no data
            self.parts = before
            raise
        now = time.perf_counter()
        self._next_write = now + WAIT * (now - began)

    def part(self, name: str) -> Part:
        """One part of the fit, by name."""
        return Part(self, name)


class CheckpointFolder:
    """Checkpoints of the fits that a search is made of, a file for each.

    Parameters
    ----------
    path : str or path
    identity : str
        Digest of all that decides what comes out of the search.

    Raises
    ------
    ValueError
        If there is something else, or no folder can be made there.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str):
        self.path, self.identity = Path(path), identity
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"Got checkpoint={str(path)!r}, but expected a folder, or a path where one can be "
                f"made: {error}."
            ) from error

    @classmethod
    def of_search(cls, path: str | os.PathLike[str], identity: str, seed: int) -> CheckpointFolder:
        """Open the folder of a search; what another search has left there goes.

        Parameters
        ----------
        path, identity
            As for the class.
        seed : int
            Of a new search; one that goes on has the one that it began with.

        Warns
        -----
        UserWarning
            If the folder is of another search: it starts afresh.
        """
        folder = cls(path, identity)
        known = folder.path / "search"
        if not known.exists() and any(folder.path.iterdir()):
            raise ValueError(
                f"Got checkpoint={str(path)!r}, but there are files of something else: pass the "
                "path of a folder that is empty, or that is not there yet."
            )
        of_search = Checkpoint(known, identity, seed)
        if not of_search.parts:
            for other in folder.path.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
            of_search.keep("begun", True)
        folder.seed = of_search.seed
        return folder

    seed = 0
    """Of the search."""

    def within(self, name: str) -> CheckpointFolder:
        """Return a folder in this one."""
        return CheckpointFolder(self.path / name, f"{self.identity}/{name}")

    def file(self, name: str) -> Checkpoint:
        """Return one of the checkpoints."""
        return Checkpoint(self.path / name, f"{self.identity}/{name}", self.seed)

    def keep_only(self, name: str) -> None:
        """Remove all checkpoints but one."""
        for other in self.path.iterdir():
            if other.name != name:
                other.unlink()


class Part:
    """A part of a fit in its checkpoint: a training, or what several trainings lead to."""

    def __init__(self, checkpoint: Checkpoint, name: str):
        self.checkpoint, self.name = checkpoint, name

    def part(self, name: str) -> Part:
        """One of the parts within this one; they go when this one is kept."""
        return Part(self.checkpoint, f"{self.name}/{name}")

    @property
    def saved(self) -> Any:
        """What is kept of it; None where nothing is."""
        return self.checkpoint.parts.get(self.name)

    def keep(self, saved: Any) -> None:
        """Keep data: numbers, strings, tensors, and dicts and lists of them."""
        self.checkpoint.keep(self.name, saved)


class Parts(NamedTuple):
    """The two trainings of a table, in a checkpoint; None without one."""

    dense: Part | None
    pruning: Part | None


def parts_of(whole: Checkpoint | Part | None) -> Parts:
    """Parts of a fit, or of a part of it, for the dense phase and the pruning.

    Parameters
    ----------
    whole : Checkpoint, Part or None

    Returns
    -------
    Parts
    """
    if whole is None:
        return Parts(None, None)
    return Parts(whole.part("dense"), whole.part("pruning"))


class Keeper(Callback):
    """Keep the state of a training at the end of its epochs, and put back what was kept.

    The last of a net's callbacks.

    Parameters
    ----------
    part : Part
    """

    def __init__(self, part: Part):
        self.part = part
        self.saved: dict[str, Any] | None = part.saved
        self.unkept = ""

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.saved is not None and self.saved["finished"]

    def epochs_left(self, net: NeuralNet) -> int:
        """Epochs that the training has still to do."""
        return net.max_epochs - len(net.history)

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Put back what was kept, when all else is set up."""
        if self.saved is not None:
            with naming(
                self.part.checkpoint.path, "whose state is not that of this fit: delete it"
            ):
                _put_back(net, self.saved["net"])

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the state, if it is time."""
        if not self.unkept and self.part.checkpoint.is_due:
            self._keep(net, finished=False)

    def end(self, net: NeuralNet) -> None:
        """Keep the state after the last epoch."""
        self.set_generators(net)  # where no epoch was left
        if not self.finished and not self.unkept:
            self._keep(net, finished=True)

    def set_generators(self, net: NeuralNet) -> None:
        """Put the random generators where they were when the state was kept, the first time."""
        if self.saved is not None and self.saved["generators"] is not None:
            _set_generators(self.saved["generators"], torch.device(net.device))
            self.saved = {**self.saved, "generators": None}

    def _keep(self, net: NeuralNet, finished: bool) -> None:
        generators = _generators(torch.device(net.device))
        try:
            self.part.keep({"finished": finished, "generators": generators, "net": _kept(net)})
        except ValueError as error:
            self.unkept = str(error)
            warn_at_caller(
                f"The checkpoint leaves out a training that it cannot hold: {error} Once killed, "
                "this training begins anew; what came before it is kept.",
                UserWarning,
            )


class Generators(Callback):
    """Put the random generators where they were, before anything of an epoch draws from them.

    The first of a net's callbacks.

    Parameters
    ----------
    keeper : Keeper
    """

    def __init__(self, keeper: Keeper):
        self.keeper = keeper

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Do so in the first epoch."""
        self.keeper.set_generators(net)


def _kept(net: Any) -> dict[str, Any]:
    """State of a net at the end of an epoch: what skorch's ``save_params`` keeps, and callbacks."""
    own = net.kept() if hasattr(net, "kept") else _kept_of_skorch(net)
    return {
        "own": own,
        "epochs": [dict(epoch) for epoch in net.history],
        "pieces": getattr(net, "n_pieces_", 1),
        "callbacks": {name: _counted(name, callback) for name, callback in _callbacks(net)},
    }


def _put_back(net: Any, saved: dict[str, Any]) -> None:
    """Give a net that is about to be trained the state that :func:`_kept` returned, in place."""
    if hasattr(net, "kept"):
        net.put_back(saved["own"])
    else:
        _put_back_of_skorch(net, saved["own"])
    net.history_, net.n_pieces_ = History(saved["epochs"]), saved["pieces"]
    for name, callback in _callbacks(net):
        for attribute, value in saved["callbacks"].get(name, {}).items():
            own: Any = getattr(callback, attribute, None)
            if hasattr(own, "load_state_dict"):
                own.load_state_dict(value)
            else:
                setattr(callback, attribute, value)


def _kept_of_skorch(net: NeuralNet) -> dict[str, Any]:
    parts: dict[str, Any] = {
        name: {key: tensor.detach().clone() for key, tensor in _tensors(net, name).items()}
        for name in (*net._modules, *net._criteria)
    }
    for name in net._optimizers:
        parts[name] = _plain(getattr(net, f"{name}_").state_dict())
    return parts


def _put_back_of_skorch(net: NeuralNet, saved: dict[str, Any]) -> None:
    with torch.no_grad():
        for name in (*net._modules, *net._criteria):
            for key, tensor in _tensors(net, name).items():
                tensor.copy_(saved[name][key])
    for name in net._optimizers:
        getattr(net, f"{name}_").load_state_dict(saved[name])


def _tensors(net: NeuralNet, name: str) -> dict[str, Tensor]:
    module = plain(getattr(net, f"{name}_"))
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _callbacks(net: NeuralNet) -> list[tuple[str, Callback]]:
    """Callbacks that keep something between epochs; not those that are here for the fit alone."""
    return [pair for pair in net.callbacks_ if pair[0] not in OF_THE_FIT]


OF_THE_FIT = ("generators_of_the_fit", "watch_of_the_fit", "of_the_fit", "checkpoint_of_the_fit")
"""Names under which :func:`training.train` adds its own callbacks, for the time of a training."""


def _counted(name: str, callback: Callback) -> dict[str, Any]:
    """Copy what a callback has set since it was made; code (functions, classes) is set up anew."""
    parameters = callback.get_params(deep=False)
    counted = {}
    for attribute, value in vars(callback).items():
        if attribute in parameters:
            continue
        if not isinstance(value, nn.Module):
            if hasattr(value, "state_dict") and not isinstance(value, type):
                value = value.state_dict()
            elif callable(value):
                continue
        value = _plain(value)
        as_json(value, {}, f"{type(callback).__name__} {name!r} with {attribute}")
        counted[attribute] = value
    return counted


def _plain(value: Any) -> Any:
    """Ordered and other mappings as plain dicts."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value


def _generators(device: torch.device) -> dict[str, Any]:
    """States of the global random generators."""
    kind, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "python": (version, torch.tensor(numbers), gauss),
    }


def _set_generators(saved: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(saved["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(saved["device"], device)
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
