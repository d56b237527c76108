"""What the columns of a table mean, in code or in a file of its own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fairprune_sk.datasets.csv_files import existing
from fairprune_sk.datasets.files import stem_of


def _as_tuple(values: Any) -> tuple:
    return (values,) if isinstance(values, str) else tuple(values)


@dataclass(frozen=True)
class TableDescription:
    """What the columns of a table mean.

    Parameters
    ----------
    target : str
        Column with the target, which has two values.
    sensitive : tuple of str
        One or more columns with sensitive features.
    positive : optional
        The target's positive value; not needed where the target is 0 and 1, or boolean.
    drop : tuple of str, default=()
        Columns that are no features, such as identifiers or row weights.
    groups : dict of tuple, default={}
        For a sensitive column, the values that are groups of their own; all others become
        ``"Other"``. A sensitive column that is not named has a group for each value.
    categories : tuple of str, default=()
        Columns whose numbers are codes of categories.
    na_values : tuple, default=()
        What stands for a missing value, besides an empty cell and pandas' usual words.
    sensitive_is_feature : bool, default=True
        Whether the sensitive columns are features too, with their raw values.
    missing_sensitive : {"error", "group", "leave_out"}, default="error"
        What becomes of rows without a sensitive value: an error, a group ``"missing"``, or they
        are left out.
    bins : dict of tuple, default={}
        For a sensitive column of numbers, the edges between its groups, ascending:
        ``{"age": (25, 60)}`` makes three.
    control : tuple of str, default=()
        Columns within whose values groups are compared; they stay features.

    Raises
    ------
    ValueError
        If the fields contradict each other.

    Examples
    --------
    >>> from fairprune_sk.datasets import TableDescription
    >>> TableDescription(target="hired", positive="yes", sensitive="sex").sensitive
    ('sex',)
    """

    target: str
    sensitive: tuple[str, ...]
    positive: Any = None
    drop: tuple[str, ...] = ()
    groups: Mapping[str, tuple] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    na_values: tuple = ()
    sensitive_is_feature: bool = True
    missing_sensitive: str = "error"
    control: tuple[str, ...] = ()
    bins: Mapping[str, tuple] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sensitive", "drop", "categories", "na_values", "control"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        for name in ("groups", "bins"):
            found = {column: _as_tuple(kept) for column, kept in getattr(self, name).items()}
            object.__setattr__(self, name, found)
        if not self.sensitive:
            raise ValueError("Got no sensitive column, but expected at least one.")
        strangers = sorted({*self.groups, *self.bins} - {*self.sensitive})
        if strangers:
            raise ValueError(
                f"Got groups for {strangers}, but expected sensitive columns only: "
                f"{list(self.sensitive)}."
            )
        for column, edges in self.bins.items():
            numbers = [edge for edge in edges if isinstance(edge, Real)]
            if not edges or numbers != sorted(set(edges)) or column in self.groups:
                raise ValueError(
                    f"Got bins={list(edges)} for {column!r}, but expected ascending numbers, and "
                    "no groups for the same column."
                )
        if self.target in (*self.sensitive, *self.drop, *self.control):
            raise ValueError(
                f"Got target={self.target!r}, which is among the sensitive, control or dropped "
                "columns, but expected a column of its own."
            )
        both = sorted(set(self.sensitive) & set(self.control))
        if both:
            raise ValueError(
                f"Got {both} as sensitive and as control columns, but expected different ones: "
                "within one value of a column it has no groups to compare."
            )
        if self.missing_sensitive not in ("error", "group", "leave_out"):
            raise ValueError(
                f"Got missing_sensitive={self.missing_sensitive!r}, but expected 'error', 'group' "
                "or 'leave_out'."
            )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TableDescription:
        """Make a description from a dict of its fields.

        Parameters
        ----------
        content : dict

        Returns
        -------
        TableDescription

        Raises
        ------
        ValueError
            If a field is unknown or absent.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(content) - set(known))
        if unknown:
            raise ValueError(f"Got {unknown} in a table's description, but expected {known}.")
        absent = [name for name in ("target", "sensitive") if name not in content]
        if absent:
            raise ValueError(f"Got a table's description without {absent}, which it needs.")
        return cls(**content)

    @classmethod
    def from_file(cls, path: Any) -> TableDescription:
        """Read a description from a small JSON or TOML file.

        Parameters
        ----------
        path : str or path
            Ends with ".json" or ".toml".

        Returns
        -------
        TableDescription

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is neither JSON nor TOML, or its fields are not those of a description.
        """
        path = existing(path, "a table's description")
        readers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}
        if path.suffix not in readers:
            raise ValueError(f"Got {str(path)!r}, but expected a .json or .toml file.")
        try:
            content = readers[path.suffix](path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"Got {str(path)!r}, which cannot be read: {error}.") from error
        if not isinstance(content, Mapping):
            raise ValueError(f"Got {str(path)!r}, but expected names and values.")
        return cls.from_dict(content)


TABLES: Mapping[str, TableDescription] = MappingProxyType(
    {
        "adult": TableDescription(
            target="income",
            positive=">50K",
            sensitive=("sex", "race"),
            groups={"race": ("White", "Black")},
            drop=("fnlwgt", "split"),
            na_values=("?",),
        ),
        "compas": TableDescription(
            target="two_year_recid",
            positive=1,
            sensitive=("race", "sex"),
            groups={"race": ("African-American", "Caucasian")},
        ),
    }
)
"""Descriptions of tables that are found as ``<name>.csv`` or ``<name>.csv.gz``."""


def as_description(description: Any) -> TableDescription:
    """Return a description that was given as an object, a dict or the path of a file."""
    if isinstance(description, TableDescription):
        return description
    if isinstance(description, Mapping):
        return TableDescription.from_dict(description)
    return TableDescription.from_file(description)


def beside(path: Path) -> Path:
    """Find the description of a table's file in its folder."""
    stem = stem_of(path)
    candidates = [path.with_name(stem + suffix) for suffix in (".json", ".toml")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"Got the file {str(path)!r} without a description, but expected its target and its "
        f"sensitive columns: pass description=..., or put {candidates[1].name!r} beside it."
    )
