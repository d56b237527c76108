"""Folders of labelled faces (CelebA, LFW), read image by image when a batch needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_SPLITS = {"train": 0, "valid": 1, "test": 2}


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Images need Pillow: pip install fairprune_sk[images]") from error
    return Image


@dataclass(eq=False)
class ImageFiles:
    """Image files, indexed like an array of shape (n, 3, image_size, image_size).

    An integer gives an image, decoded from its file. Any other index of rows (a slice, integers,
    booleans) gives the ``ImageFiles`` of those rows and opens no file: scikit-learn's splits and
    skorch's loaders read only the images of the batch at hand. ``np.asarray`` reads them all.

    Parameters
    ----------
    folder : str or path
        Where the files are.
    files : array-like of str, shape (n,)
        Their paths below the folder.
    image_size : int, default=64
        Height and width of the images, in pixels.
    crop : int or None, default=None
        Side of the centred square that is scaled, in pixels of the file. None is the largest.
    mean, std : float or sequence of three floats, default=0.0 and 1.0
        Colours come as (value - mean) / std, with values in [0, 1]; three for red, green, blue.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from fairprune_sk.datasets import ImageFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (80, 100), "red").save(f"{folder}/a.png")
    ...     images = ImageFiles(folder, ["a.png", "not_read.png"], image_size=32)
    ...     images.shape, images[1:].shape, images[0].mean(axis=(1, 2)).tolist()
    ((2, 3, 32, 32), (1, 3, 32, 32), [1.0, 0.0, 0.0])
    """

    folder: str | os.PathLike[str]
    files: Any
    image_size: int = 64
    crop: int | None = None
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        self.files = np.asarray(self.files, dtype=str)
        for name in ("image_size", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Got {name}={value}, but expected a positive integer.")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of images, channels, height, width."""
        return len(self), 3, self.image_size, self.image_size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):  # scikit-learn writes X[rows, ...]
            index = tuple(part for part in index if part is not ...)
        files = self.files[index]
        return self._decode(files) if isinstance(files, str) else replace(self, files=files)

    def read(self, index: Any = slice(None)) -> np.ndarray:
        """Decode the images of an index of rows, by default all, into one float32 array."""
        chosen = self[index]
        pixels = np.empty(chosen.shape, dtype=np.float32)
        for i, file in enumerate(chosen.files):
            pixels[i] = self._decode(file)
        return pixels

    def digest(self) -> str:
        """Name the images, by file; not by what is in them."""
        return repr((self.shape, [*self.files]))

    def _decode(self, file: str) -> np.ndarray:
        Image, path, size = _pillow(), Path(self.folder) / file, self.image_size
        try:
            with Image.open(path) as image:
                width, height = image.size
                side = self.crop or min(width, height)
                if side > min(width, height):
                    raise ValueError(f"Got crop={side}, but {path} has {width} by {height} pixels.")
                # A JPEG decodes to a half, a quarter or an eighth of its size in far less time.
                image.draft(None, (width * size // side, height * size // side))
                x, y = image.width / 2, image.height / 2
                half = min(x, y, x * side / width)
                box = (x - half, y - half, x + half, y + half)
                image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box)
        except (OSError, SyntaxError) as error:
            raise OSError(f"Got {path}, which cannot be read as an image: {error}") from error
        pixels = (np.asarray(image) / 255 - np.asarray(self.mean)) / np.asarray(self.std)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)


def load_celeba(
    folder: str | os.PathLike[str],
    *,
    target: str = "Smiling",
    sensitive: str | Sequence[str] = "Male",
    split: str = "train",
    image_size: int = 64,
    **settings: Any,
) -> tuple[ImageFiles, pd.Series, pd.Series | pd.DataFrame]:
    r"""Read the attributes of CelebA, and find its images.

    Parameters
    ----------
    folder : str or path
        With ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and ``img_align_celeba/``,
        which may be in the folders Anno, Eval and Img, as they are published.
    target : str, default="Smiling"
        Attribute to predict.
    sensitive : str or sequence of str, default="Male"
        Attributes whose groups are compared.
    split : {"train", "valid", "test", "all"}, default="train"
        Part of the official partition.
    image_size : int, default=64
        Height and width of the images. The files have 178 by 218 pixels.
    **settings
        ``crop``, ``mean`` and ``std`` of :class:`ImageFiles`.

    Returns
    -------
    images : ImageFiles of shape (n, 3, image_size, image_size)
    y, sensitive_features : Series of shape (n,), int64
        1 where the attribute is positive, otherwise 0. The second is a DataFrame where
        ``sensitive`` is a sequence.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file or an image is missing, or a file has another format or other attributes.

    References
    ----------
    Liu, Luo, Wang and Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from fairprune_sk.datasets import load_celeba
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name)
    ...     (folder / "img_align_celeba").mkdir()
    ...     Image.new("RGB", (178, 218)).save(folder / "img_align_celeba" / "1.jpg")
    ...     _ = (folder / "list_attr_celeba.txt").write_text("1\nMale Smiling\n1.jpg -1 1")
    ...     _ = (folder / "list_eval_partition.txt").write_text("1.jpg 0")
    ...     images, y, s = load_celeba(folder, target="Smiling", sensitive="Male")
    >>> images.shape, y.tolist(), s.tolist()
    ((1, 3, 64, 64), [1], [0])
    """
    if split not in (*_SPLITS, "all"):
        raise ValueError(f"Got split={split!r}, but expected one of {[*_SPLITS, 'all']}.")
    path = _find(folder, "list_attr_celeba.txt", "Anno/list_attr_celeba.txt")
    with open(path) as lines:
        count, names, first = (lines.readline().split() for _ in range(3))
    if len(count) != 1 or not count[0].isdigit() or len(first) != len(names) + 1:
        raise ValueError(
            f"Got {path}, but expected a line with a count, one with names, and one for each image."
        )
    columns = _columns(target, sensitive, names, path)
    table = pd.read_csv(path, sep=r"\s+", skiprows=2, names=["file", *names])
    if len(table) != int(count[0]):
        raise ValueError(f"Got {len(table)} images in {path}, but its first line says {count[0]}.")
    scores = table[columns].apply(pd.to_numeric, errors="coerce")
    _check_rows(table, scores.isin([-1, 1]).all(axis=1), "-1 or 1", path)
    if split != "all":
        path = _find(folder, "list_eval_partition.txt", "Eval/list_eval_partition.txt")
        parts = pd.read_csv(path, sep=r"\s+", names=["file", "part"], index_col="file")["part"]
        part = table["file"].map(parts)
        _check_rows(table, part.isin(_SPLITS.values()), "0, 1 or 2", path)
        table = table[part == _SPLITS[split]]
    images = _find(folder, "img_align_celeba", "Img/img_align_celeba")
    files = ImageFiles(images, table["file"], image_size, **settings)
    return _labelled(files, scores.loc[table.index], target, sensitive)


def load_lfw(
    folder: str | os.PathLike[str],
    *,
    target: str = "Smiling",
    sensitive: str | Sequence[str] = "Male",
    image_size: int = 64,
    **settings: Any,
) -> tuple[ImageFiles, pd.Series, pd.Series | pd.DataFrame]:
    r"""Read the attributes of Labeled Faces in the Wild, and find its images.

    There is no official partition. Many people have several images: to keep them on one side of
    a split, group the rows by ``[file.split("/")[0] for file in images.files]``.

    Parameters
    ----------
    folder : str or path
        With ``lfw_attributes.txt`` and the folder ``lfw_funneled`` (or ``lfw``) of scikit-learn's
        ``fetch_lfw_people``: its ``data_home``, or ``lfw_home`` in there.
    target, sensitive, image_size, **settings
        As for :func:`load_celeba`. The files have 250 by 250 pixels.

    Returns
    -------
    images, y, sensitive_features
        As from :func:`load_celeba`. The attributes are scores of classifiers, cut at 0.

    References
    ----------
    Huang, Ramesh, Berg and Learned-Miller, "Labeled Faces in the Wild", 2007. Kumar, Berg,
    Belhumeur and Nayar, "Attribute and Simile Classifiers for Face Verification", ICCV 2009.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from fairprune_sk.datasets import load_lfw
    >>> with tempfile.TemporaryDirectory() as name:
    ...     (folder := pathlib.Path(name) / "lfw_funneled" / "Ada_Low").mkdir(parents=True)
    ...     Image.new("RGB", (250, 250)).save(folder / "Ada_Low_0001.jpg")
    ...     text = "#\tperson\timagenum\tMale\tSmiling\nAda Low\t1\t-0.5\t0.2"
    ...     _ = pathlib.Path(name, "lfw_attributes.txt").write_text(text)
    ...     images, y, s = load_lfw(name, target="Smiling", sensitive="Male")
    >>> images.shape, y.tolist(), s.tolist()
    ((1, 3, 64, 64), [1], [0])
    """
    path = _find(folder, "lfw_attributes.txt", "lfw_home/lfw_attributes.txt")
    with open(path) as lines:
        header = [line for line in lines if line.startswith("#")]
    names = header[-1][1:].strip().split("\t") if header else []
    if names[:2] != ["person", "imagenum"]:
        raise ValueError(
            f"Got {path}, but expected a line '# person imagenum ...' with tabs between names."
        )
    columns = _columns(target, sensitive, names[2:], path)
    table = pd.read_csv(path, sep="\t", skiprows=len(header), names=names)
    people, number = table["person"].str.replace(" ", "_"), table["imagenum"].astype(str)
    table["file"] = people + "/" + people + "_" + number.str.zfill(4) + ".jpg"
    scores = table[columns].apply(pd.to_numeric, errors="coerce")
    _check_rows(table, scores.notna().all(axis=1), "numbers", path)
    images = _find(folder, "lfw_funneled", "lfw_home/lfw_funneled", "lfw", "lfw_home/lfw")
    files = ImageFiles(images, table["file"], image_size, **settings)
    return _labelled(files, scores, target, sensitive)


def _find(folder: str | os.PathLike[str], *places: str) -> Path:
    """Return the first of several places below a folder where there is something."""
    _pillow()
    for place in places:
        if (Path(folder) / place).exists():
            return Path(folder) / place
    raise FileNotFoundError(f"Got folder={folder}, but expected {' or '.join(places)} in it.")


def _columns(target: str, sensitive: Any, known: list[str], path: Path) -> list[str]:
    """Names of the attributes that are asked for, each once."""
    names = [target, *([sensitive] if isinstance(sensitive, str) else sensitive)]
    spellings = {name.lower().replace("_", " "): name for name in known}
    for name in set(names) - set(known):
        near = get_close_matches(name.lower().replace("_", " "), spellings, n=5) or spellings
        raise ValueError(
            f"Got attribute {name!r}, but expected one of those in {path.name}, such as "
            f"{', '.join(repr(spellings[match]) for match in near)}."
        )
    return [*dict.fromkeys(names)]


def _check_rows(table: pd.DataFrame, good: pd.Series, expected: str, path: Path) -> None:
    if not good.all():
        file = table["file"][good.idxmin()]
        raise ValueError(f"Got {path}, but expected {expected} for each image; {file} is without.")


def _labelled(images: ImageFiles, scores: pd.DataFrame, target: str, sensitive: Any) -> Any:
    """Cut the attributes at 0, and check that the images are there, without opening them."""
    missing = [f for f in images.files if not os.path.exists(os.path.join(images.folder, f))]
    if missing:
        raise FileNotFoundError(
            f"Got {images.folder}, but {len(missing)} of the {len(images)} images that have "
            f"attributes are not there, such as {missing[0]}."
        )
    labels = (scores > 0).astype(np.int64).reset_index(drop=True)
    return images, labels[target], labels[sensitive if isinstance(sensitive, str) else [*sensitive]]
