"""Datasets: tables and images as people have them, and made-up ones.

Here belongs the way from a file or a generator to features, labels and sensitive features:
generated tables with a known bias, CSV files however they are written, Adult, COMPAS and
fairlearn's tables, images on disk. Nothing here knows networks.
"""

from fairprune_sk.datasets.images import ImageFiles, load_celeba, load_lfw
from fairprune_sk.datasets.synthetic import make_biased_classification

__all__ = ["ImageFiles", "load_celeba", "load_lfw", "make_biased_classification"]
