"""Fitted estimators as files that hold data alone: loading one never runs code from it.

A file is a zip of three members: ``fairprune_sk.json`` with the format's version and the checksums
of the other two, ``state.json`` and ``tensors.safetensors``. The checksums show damage and careless
edits; they are no signature.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import io
import json
import os
import secrets
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fairlearn import reductions as moments
from fairlearn.reductions import Moment
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.history import History
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fairprune_sk.bilevel import SOLVERS
from fairprune_sk.constraints import CONSTRAINTS
from fairprune_sk.dense import _build_module
from fairprune_sk.encoding import TableEncoder
from fairprune_sk.granularity import GRANULARITIES
from fairprune_sk.modules import TabularNetwork
from fairprune_sk.outputs import device_of, evaluating, forward
from fairprune_sk.pruner import FairPruner
from fairprune_sk.training import BinaryNet, MulticlassNet, main_output, plain

VERSION = 1
"""Of the format: files of a later one are refused."""

MAX_BYTES = 2**32
"""No member of a file is larger: a small file cannot fill the memory."""

_MANIFEST, _STATE, _TENSORS = "fairprune_sk.json", "state.json", "tensors.safetensors"

_MOMENTS = (
    moments.DemographicParity,
    moments.EqualizedOdds,
    moments.ErrorRateParity,
    moments.FalsePositiveRateParity,
    moments.TruePositiveRateParity,
)
_CLASSES: dict[str, type] = {
    **{c.__name__: c for names in (CONSTRAINTS, SOLVERS) for c in names.values()},
    **{type(granularity).__name__: type(granularity) for granularity in GRANULARITIES.values()},
    **{f"fairlearn.{c.__name__}": c for c in _MOMENTS},
}
"""Every class that a file may name."""

_SCALARS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "float": (float, repr, float),  # those that JSON has not: infinities and NaN
    "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
    "timedelta": (pd.Timedelta, pd.Timedelta.isoformat, pd.Timedelta),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
}

# Layers whose forward reads its sizes off the weights, or off plain integers, which are stored.
_RESIZABLE = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.PReLU)

# Of scikit-learn's callbacks and routing, not of the fit.
_SHELL = {"_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_metadata_request"}


class PortableEncoder(TableEncoder):
    """A fitted :class:`TableEncoder` whose state is arrays and dictionaries alone.

    Attributes
    ----------
    median_ : ndarray of shape (n_numeric,)
        What missing numbers are replaced by.
    indicated_ : ndarray of shape (n_indicators,), int64
        Numeric columns with an indicator of missing values.
    center_, scale_, low_, high_ : ndarray of shape (n_numeric + n_indicators,)
    codes_ : list of dict
        Code of each category of each categorical column.
    """

    @classmethod
    def of(cls, encoder: TableEncoder) -> PortableEncoder:
        """Take over the state of a fitted encoder, to the same bits of every output."""
        if isinstance(encoder, cls):
            return encoder
        portable = cls()
        steps = {"_imputer", "_scaler", "_ordinal", "_low", "_high"}
        vars(portable).update({k: v for k, v in vars(encoder).items() if k not in steps})
        if not encoder._categorical.all():
            portable.median_ = encoder._imputer.statistics_
            portable.indicated_ = np.asarray(encoder._imputer.indicator_.features_, dtype=np.int64)
            portable.center_, portable.scale_ = encoder._scaler.center_, encoder._scaler.scale_
            portable.low_, portable.high_ = encoder._low, encoder._high
        portable.codes_ = []
        categories = encoder._ordinal.categories_ if encoder._categorical.any() else []
        for j, values in enumerate(categories):
            rows = np.full((len(values), len(categories)), None, dtype=object)
            rows[:] = [column[0] for column in categories]
            rows[:, j] = values
            codes = encoder._ordinal.transform(rows)[:, j].tolist()
            portable.codes_.append(dict(zip(values.tolist(), codes, strict=True)))
        return portable

    def transform(self, X: Any) -> np.ndarray:
        """Encode a table of shape (n, n_columns) to float32, as :class:`TableEncoder` does."""
        numeric, categorical = self._split(pd.DataFrame(X))
        parts = []
        if numeric.shape[1]:
            missing = np.isnan(numeric)
            numbers = np.hstack(
                [np.where(missing, self.median_, numeric), missing[:, self.indicated_]]
            )
            scaled = (numbers - self.center_) / self.scale_
            parts.append(np.clip(scaled, self.low_, self.high_).astype(np.float32))
        if categorical.shape[1]:
            encoded = [
                [known.get(value, -1.0) for value in column]
                for known, column in zip(self.codes_, categorical.T, strict=True)
            ]
            parts.append(np.array(encoded, dtype=np.float32).T)
        return np.ascontiguousarray(np.concatenate(parts, axis=1))


def save(pruner: FairPruner, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file without code: weights as safetensors, the rest as JSON.

    An interrupted or failed write leaves a file that was there before as it was.

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    path : str or path

    Raises
    ------
    ValueError
        If a parameter or a fitted attribute is no data, such as a constraint of one's own.

    Warns
    -----
    UserWarning
        If ``callbacks``, or a ``random_state`` that is no integer, are left out.

    Examples
    --------
    >>> import tempfile
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> from fairprune_sk.persistence import load, save
    >>> X, y, _ = make_biased_classification(200, random_state=0)
    >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pruner, f"{folder}/pruner.fairprune")
    ...     loaded = load(f"{folder}/pruner.fairprune")
    >>> bool((loaded.predict_proba(X) == pruner.predict_proba(X)).all())
    True
    """
    check_is_fitted(pruner)
    parameters = pruner.get_params(deep=False)
    apart = {*parameters, *_SHELL, "dense_estimator_", "encoder_", "history_"}
    attributes = {name: value for name, value in vars(pruner).items() if name not in apart}
    networks = {k: v for k, v in attributes.items() if isinstance(v, nn.Module)}
    del parameters["estimator"]
    for name in ("callbacks", "random_state"):
        value = parameters[name]
        if value is not None and not isinstance(value, int | np.integer):
            warnings.warn(f"Not saved: {name}={value!r}, which is no data.", stacklevel=2)
            parameters[name] = None
    dense = plain(pruner.dense_estimator_.module_)
    default = pruner.encoder_ is not None
    tensors = {
        f"{name}/{key}": tensor
        for name, network in {"dense": dense, **networks}.items()
        for key, tensor in network_tensors(network).items()
    }
    state = {
        "parameters": parameters,
        "attributes": {k: v for k, v in attributes.items() if k not in networks},
        "encoder": vars(PortableEncoder.of(pruner.encoder_)) if default else None,
        "architecture": _architecture(dense) if default else type(dense).__name__,
        "binary": isinstance(pruner.dense_estimator_, NeuralNetBinaryClassifier),
        "sizes": {name: _changed_sizes(dense, network) for name, network in networks.items()},
        "probe": _probe(pruner),
        "history": _epochs(pruner.history_),
        "dense_history": _epochs(pruner.dense_estimator_.history),
    }
    members = {
        _STATE: json.dumps(_as_json(state, tensors, ""), allow_nan=False).encode(),
        _TENSORS: tensors_to_bytes(tensors),
    }
    if max(map(len, members.values())) > MAX_BYTES:
        raise ValueError(f"Got a network of more than {MAX_BYTES} bytes, the most that is read.")
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    manifest = json.dumps({"version": VERSION, "sha256": digests}).encode()
    write_atomically(path, compressed({_MANIFEST: manifest, **members}))


def load(path: str | os.PathLike[str], *, modules: Any = None) -> FairPruner:
    """Read an estimator that :func:`save` wrote. No code in the file is run; it holds none.

    Parameters
    ----------
    path : str or path
    modules : nn.Module instance or class, callable that returns one, or skorch net
        For an estimator that was fitted with a network of the user's: the same dense network, as
        code cannot come from the file. Its weights do not matter; the object is not changed.

    Returns
    -------
    FairPruner
        Predicts to the same bits as the one that was saved, on the CPU. Its ``estimator`` is
        None, or what ``modules`` gave.

    Raises
    ------
    ValueError
        If the file is truncated, was changed, is foreign, or comes from a later version; or if
        the module is not of the saved architecture.
    """
    data, tensors = _read(path)
    try:
        state = _from_json(data, tensors)
        attributes, architecture = state["attributes"], state["architecture"]
        pruner = FairPruner(**state["parameters"])
        encoder = None
        if state["encoder"] is not None:
            encoder = PortableEncoder()
            vars(encoder).update(state["encoder"])
            built = TabularNetwork(encoder.edges_, encoder.n_categories_, **architecture)
    except Exception as error:  # whatever strange data leads to
        raise ValueError(
            f"Got {path}, whose state is not as version {VERSION} writes it: {error!r}."
        ) from error
    if (modules is None) == (encoder is None):
        expected = "no modules" if encoder is not None else f"modules=<the dense {architecture}>"
        raise ValueError(f"Got modules={modules!r} for {path}, but expected {expected}.")
    net = clone(modules).initialize() if isinstance(modules, NeuralNet) else None
    if net is not None:
        built = plain(net.module_)
    elif isinstance(modules, type):
        X = np.empty((0, attributes.get("n_features_in_", 0)), dtype=np.float32)
        built = _build_module(modules, X, len(attributes["classes_"]))
    elif modules is not None:
        modules = modules if isinstance(modules, nn.Module) else modules()
        built = copy.deepcopy(modules)
    networks = {name: copy.deepcopy(built).eval() for name in state["sizes"]}
    _fill(built, tensors, "dense")
    resized: list[nn.Module] = []
    for name, network in networks.items():
        _resize(network, state["sizes"][name])
        resized += _fill(network, tensors, name)
    for name, value in {**attributes, **networks, "estimator": modules}.items():
        setattr(pruner, name, value)
    pruner.encoder_ = encoder
    pruner.dense_estimator_ = net or _dense_net(built, state["binary"], pruner._probabilities)
    pruner.dense_estimator_.history_ = _history(state["dense_history"])
    pruner.history_ = _history(state["history"])
    _check_probe(pruner, state["probe"], resized)
    return pruner


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all: beside it first, then in its place."""
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def network_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each with memory of its own on the CPU."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named}


def compressed(members: Mapping[str, bytes]) -> bytes:
    """Zip of the members; the same ones give the same bytes. Zeros among weights shrink."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _read(path: Any) -> tuple[Any, dict[str, Tensor]]:
    """JSON and tensors of a file, after every check that it allows."""
    content = Path(path).read_bytes()
    ours = content[30 : 30 + len(_MANIFEST)] == _MANIFEST.encode()  # a zip names members there
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        manifest = json.loads(_member(archive, _MANIFEST))
        version, digests = int(manifest["version"]), manifest["sha256"]
    except Exception as error:
        what = "is truncated or damaged" if ours else "was not written by fairprune_sk"
        raise ValueError(f"Got {path}, which {what} ({len(content)} bytes).") from error
    if version > VERSION:
        raise ValueError(
            f"Got {path} of format version {version}, but expected at most {VERSION}: it was "
            "written by a newer fairprune_sk."
        )
    try:
        members = [_member(archive, name) for name in (_STATE, _TENSORS)]
        found = [hashlib.sha256(member).hexdigest() for member in members]
        if found != [digests[name] for name in (_STATE, _TENSORS)]:
            raise ValueError("a checksum does not match")
        return json.loads(members[0]), tensors_from_bytes(members[1])
    except Exception as error:
        raise ValueError(
            f"Got {path}, which was changed or damaged after it was saved: {error}."
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes")
    return archive.read(name)


def _as_json(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """JSON that keeps the type of all data; what JSON has not is a dict of its type's name."""

    def each(values: Any) -> list[Any]:
        return [_as_json(v, tensors, where) for v in values]

    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and np.isfinite(value)):
        return value
    if kind is list:
        return each(value)
    if kind is tuple:
        return {"tuple": each(value)}
    if kind is dict:
        return {"dict": [[*each([k]), _as_json(v, tensors, str(k))] for k, v in value.items()]}
    if isinstance(value, Tensor):
        key = f"state/{len(tensors)}"
        tensors[key] = value.detach().cpu().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
        return {"array": [value.dtype.str, list(value.shape), each(value.ravel().tolist())]}
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return {"scalar": [value.dtype.str, *each([value.item()])]}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, pd.DataFrame):
        return {"frame": each([value.to_numpy(), list(value.index), list(value.columns)])}
    if kind is pd.Interval:
        return {"interval": each([value.left, value.right, value.closed])}
    for tag, (scalar, write, _) in _SCALARS.items():
        if kind is scalar:
            return {tag: write(value)}
    name = f"fairlearn.{kind.__name__}" if isinstance(value, Moment) else kind.__name__
    if _CLASSES.get(name) is kind:
        return {"object": [name, _as_json(_arguments(value), tensors, where)]}
    raise ValueError(
        f"Got {where}={value!r}, which a file without code cannot hold: expected numbers, strings "
        "and other data, or an object of this package's own classes."
    )


def _arguments(value: Any) -> dict[str, Any]:
    """Arguments that make an object again."""
    if not isinstance(value, Moment):
        return dict(vars(value))
    if value.ratio == 1.0:
        return {"difference_bound": value.eps}
    return {"ratio_bound": value.ratio, "ratio_bound_slack": value.eps}


def _from_json(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Read what :func:`_as_json` wrote."""
    if isinstance(data, list):
        return [_from_json(value, tensors) for value in data]
    if not isinstance(data, dict):
        return data
    ((tag, content),) = data.items()
    if tag in _SCALARS:
        return _SCALARS[tag][2](content)
    content = _from_json(content, tensors)
    match tag, content:
        case "tuple", values:
            return tuple(values)
        case "dict", items:
            return dict(items)
        case "tensor", key:
            return tensors[key].clone()
        case "array", [dtype, shape, values]:
            return np.fromiter(values, np.dtype(dtype), len(values)).reshape(shape)
        case "scalar", [dtype, value]:
            return np.dtype(dtype).type(value)
        case "dtype", name:
            return np.dtype(name)
        case "frame", [values, index, columns]:
            return pd.DataFrame(values, index=index, columns=columns)
        case "interval", [left, right, closed]:
            return pd.Interval(left, right, closed)
        case "object", [name, arguments]:
            return _CLASSES[name](**arguments)
    raise ValueError(f"no data is called {tag!r}")


def _architecture(dense: nn.Module) -> dict[str, Any]:
    """Arguments of the default network beside its bins and categories."""
    hidden = [layer.out_features for layer in dense.hidden if isinstance(layer, nn.Linear)]
    dropout = [layer.p for layer in dense.hidden if isinstance(layer, nn.Dropout)]
    return {
        "hidden": hidden,
        "dropout": dropout[0] if dropout else 0.0,
        "n_outputs": dense.output.out_features,
    }


def _sizes(layer: nn.Module) -> dict[str, Any]:
    """Integers of a layer, such as ``in_features``, and tuples of them."""

    def is_size(value: Any) -> bool:
        return type(value) is int or (type(value) is tuple and all(map(is_size, value)))

    return {k: v for k, v in vars(layer).items() if not k.startswith("_") and is_size(v)}


def _changed_sizes(dense: nn.Module, network: nn.Module) -> dict[str, dict[str, Any]]:
    """Sizes that are not those of the dense network, by layer."""
    before, after = dict(dense.named_modules()), dict(network.named_modules())
    if {n: type(layer) for n, layer in before.items()} != {n: type(v) for n, v in after.items()}:
        raise ValueError("Got a network_ with layers that the dense network has not.")
    changed = {
        name: {k: v for k, v in _sizes(layer).items() if _sizes(before[name]).get(k) != v}
        for name, layer in after.items()
    }
    return {name: sizes for name, sizes in changed.items() if sizes}


def _resize(module: nn.Module, sizes: dict[str, dict[str, Any]]) -> None:
    layers = dict(module.named_modules())
    for name, values in sizes.items():
        for size, value in values.items():
            if type(getattr(layers.get(name), size, None)) is not type(value):
                raise ValueError(f"Got {type(module).__name__} without {size} of layer {name!r}.")
            setattr(layers[name], size, value)


def _fill(module: nn.Module, tensors: dict[str, Tensor], part: str) -> list[nn.Module]:
    """Put stored tensors in the place of a module's own; return the layers that changed shape."""
    stored = {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own |= dict(module.named_buffers(remove_duplicate=False))
    # A tensor of several names is stored under the first: tied weights stay tied.
    first = {id(old): name for name, old in reversed(own.items()) if name in stored}
    source = {name: name if name in stored else first.get(id(old)) for name, old in own.items()}
    if None in source.values() or not stored.keys() <= own.keys():
        raise ValueError(
            f"Got a {type(module).__name__} with parameters {sorted(own)}, but expected those of "
            f"the saved network: {sorted(stored)}."
        )
    resized, put = [], {}
    for name, old in own.items():
        tensor = stored[source[name]].clone()  # clone: in memory aligned as torch does it
        path, _, leaf = name.rpartition(".")
        layer = module.get_submodule(path)
        if old.shape != tensor.shape:
            if part == "dense":
                raise ValueError(
                    f"Got a {type(module).__name__} whose {name} has shape {tuple(old.shape)}, but "
                    f"expected {tuple(tensor.shape)}, as in the dense network that was saved."
                )
            resized.append(layer)
        if isinstance(old, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=old.requires_grad)
        setattr(layer, leaf, put.setdefault(source[name], tensor))
    return resized


def _dense_net(module: nn.Module, binary: bool, probabilities: bool) -> NeuralNet:
    """Skorch net around a trained module, as the dense phase leaves it."""
    if binary:
        criterion = nn.BCELoss if probabilities else nn.BCEWithLogitsLoss
    else:
        criterion = nn.NLLLoss if probabilities else nn.CrossEntropyLoss
    kind = BinaryNet if binary else MulticlassNet
    return kind(module, criterion=criterion, train_split=None, verbose=0).initialize()


def _epochs(history: History) -> list[dict[str, Any]]:
    """Numbers and words of each epoch, without its batches."""
    kept = (bool, int, float, str)
    return [{k: v for k, v in row.items() if isinstance(v, kept)} for row in history]


def _history(epochs: list[dict[str, Any]]) -> History:
    return History({"batches": [], **epoch} for epoch in epochs)


def _probe(pruner: FairPruner) -> Tensor | None:
    """Output of the network for made-up rows; None if it takes no matrix."""
    encoder = pruner.encoder_
    n = getattr(pruner, "n_features_in_", 1)
    if encoder is not None:
        n = len(encoder.edges_) + len(encoder.n_categories_)
    try:
        with evaluating(pruner.network_):
            X = torch.linspace(-2.0, 2.0, 8 * n, device=device_of(pruner.network_)).view(8, n)
            return main_output(forward(pruner.network_, X)).float().cpu()
    except Exception:  # images, several inputs
        return None


def _check_probe(pruner: FairPruner, expected: Tensor | None, resized: list[nn.Module]) -> None:
    """Refuse a network that does not compute what the saved one did."""
    name, got = type(pruner.network_).__name__, _probe(pruner)
    if expected is None:
        unsure = {type(layer).__name__ for layer in resized if not isinstance(layer, _RESIZABLE)}
        if unsure:
            raise ValueError(
                f"Got a {name} with layers of other sizes than the dense network's, but {unsure} "
                "cannot be resized without rows to try it on."
            )
    elif got is None or not torch.allclose(got, expected, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            f"Got a {name} that does not compute what the saved network did: pass modules with "
            "the code and the settings of that one."
        )
