"""How methods look: the same colour and marker in every figure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

from fairprune_sk.displays.looks import (
    BLUE,
    BROWN,
    COLOURS,
    GREEN,
    GREY,
    INDIGO,
    LIGHT,
    MARKERS,
    OLIVE,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    WINE,
)

KNOWN = {
    "fairpruner": ("FairPruner", BLUE, "o"),
    "magnitude": ("magnitude", GREY, "s"),
    "lottery_ticket": ("lottery ticket", ORANGE, "^"),
    "snip": ("SNIP", GREEN, "v"),
    "grasp": ("GraSP", SKY, "<"),
    "fpgm": ("FPGM", OLIVE, ">"),
    "bip": ("BiP", RED, "D"),
    "random": ("random", LIGHT, "p"),
    "fairgrape": ("FairGRAPE", PURPLE, "P"),
    "prune_then_fair": ("prune, then fair", WINE, "X"),
    "fair_then_prune": ("fair, then prune", INDIGO, "h"),
    "balancing_act": ("Balancing Act", BROWN, "8"),
    "rigl": ("RigL", GREEN, "P"),
    "acdc": ("AC/DC", SKY, "X"),
    "dense": ("dense", "black", "*"),
    "both": ("both", BLUE, "o"),
    "mask only": ("mask only", ORANGE, "^"),
    "weights only": ("weights only", GREEN, "v"),
    "none": ("none", GREY, "s"),
}


class Style(NamedTuple):
    """How a method looks.

    Attributes
    ----------
    label : str
        What the legend says.
    color, marker : str
        As matplotlib takes them.
    """

    label: str
    color: str
    marker: str


def _spelled_out(method: str) -> str:
    """Write ``threshold_optimizer(mlp)`` as "threshold optimizer (mlp)"."""
    return " ".join(method.replace("_", " ").replace("(", " (").split())


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Choose label, colour and marker of methods: the same ones in every figure.

    Parameters
    ----------
    methods : iterable of str

    Returns
    -------
    dict of Style
        No two look the same. A method that is not known gets a look by its name, never that of
        a known method nor the colour of FairPruner; where another of these methods has its
        colour, it gets the next one that is free, as long as there is one.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.figures import styles
    >>> styles(["fairpruner"])["fairpruner"]
    Style(label='FairPruner', color='#0072B2', marker='o')
    """
    methods = list(dict.fromkeys(methods))
    chosen = {m: Style(*KNOWN[m]) for m in methods if m in KNOWN}
    taken = {(color, marker) for _, color, marker in KNOWN.values()}
    looks = [(c, m) for m in MARKERS for c in COLOURS[1:] if (c, m) not in taken]
    for method in sorted(set(methods) - set(chosen)):
        # A checksum, since Python's hash of a string differs from run to run.
        start = zlib.crc32(method.encode()) % len(looks)
        used = {(style.color, style.marker) for style in chosen.values()}
        free = [look for look in looks[start:] + looks[:start] if look not in used] or looks
        # Bands differ by colour alone, so that a colour of its own comes before a fixed one.
        colors = {style.color for style in chosen.values()}
        color, marker = next((look for look in free if look[0] not in colors), free[0])
        chosen[method] = Style(_spelled_out(method), color, marker)
    return {method: chosen[method] for method in methods}
