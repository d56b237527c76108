"""Datasets: tables and images as people have them, and made-up ones.

Here belongs the way from a file or a generator to features, labels and sensitive features:
generated tables with a known bias, files of tables however they are written, Adult, COMPAS and
fairlearn's tables, images on disk. Nothing here knows networks.
"""

from fairprune_sk.datasets.cleaning import TableCleaner
from fairprune_sk.datasets.csv_files import read_csv
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.datasets.files import read_frame
from fairprune_sk.datasets.images import ImageFiles, load_celeba, load_lfw
from fairprune_sk.datasets.parquet import ParquetTable
from fairprune_sk.datasets.roles import Roles, split_rows, with_roles
from fairprune_sk.datasets.synthetic import make_biased_classification
from fairprune_sk.datasets.tables import Table, load_table, read_table, table_from_frame

__all__ = [
    "ImageFiles",
    "ParquetTable",
    "Roles",
    "Table",
    "TableCleaner",
    "TableDescription",
    "load_celeba",
    "load_lfw",
    "load_table",
    "make_biased_classification",
    "read_csv",
    "read_frame",
    "read_table",
    "split_rows",
    "table_from_frame",
    "with_roles",
]
