"""Folders of images are read lazily, as their publishers laid them out."""

import builtins
import copy
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GroupKFold, cross_val_score, train_test_split
from skorch import NeuralNetBinaryClassifier
from skorch.dataset import ValidSplit
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.datasets.images import ImageFiles, load_celeba, load_lfw

Image = pytest.importorskip("PIL.Image")

N = 10
# CelebA: image i has these attributes, and is in part PARTS[i].
ATTRIBUTES = {
    "Male": [1, -1] * 5,
    "Smiling": [1, 1, -1, -1, 1, 1, -1, -1, 1, 1],
    "Wearing_Hat": [-1] * 9 + [1],
}
PARTS = [0] * 6 + [1] * 2 + [2] * 2
PEOPLE = {"Ada Low": 3, "Bo van der Berg": 6, "Cy": 1}


def red(i):
    """Red of image i; green and blue are 0."""
    return 20 * i


def save(path, i, size):
    Image.new("RGB", size, (red(i), 0, 0)).save(path, quality=100, subsampling=0)


@pytest.fixture
def celeba(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    rows, parts = [f"{N}", " ".join(ATTRIBUTES) + " "], []
    for i in range(N):
        name = f"{i + 1:06}.jpg"
        save(tmp_path / "img_align_celeba" / name, i, (178, 218))
        rows.append(name + "".join(f" {values[i]:2}" for values in ATTRIBUTES.values()))
        parts.append(f"{name} {PARTS[i]}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return tmp_path


@pytest.fixture
def lfw(tmp_path):
    rows = ["# lfw_attributes.txt\tfor tests", "#\tperson\timagenum\tMale\tSmiling\tWearing Hat"]
    for person, n_images in PEOPLE.items():
        place = tmp_path / "lfw_funneled" / person.replace(" ", "_")
        place.mkdir(parents=True)
        for i in range(1, n_images + 1):
            save(place / f"{place.name}_{i:04}.jpg", i, (250, 250))
            male = 0.5 if person.startswith("Bo") else -1.25e-2
            rows.append(f"{person}\t{i}\t{male}\t{i - 2.5}\t-1")
    (tmp_path / "lfw_attributes.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """Names of the image files that have been opened."""
    names, original = [], Image.open

    def record(path, *args, **kwargs):
        names.append(path.name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", record)
    return names


class Tiny(nn.Module):
    """A network that reads the mean colours."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(3, 1)

    def forward(self, X):
        return self.output(X.mean((2, 3)))


def tiny_net(**settings):
    return NeuralNetBinaryClassifier(Tiny, max_epochs=1, verbose=0, train_split=None, **settings)


def test_celeba_labels_and_partition(celeba):
    parts = {"train": range(6), "valid": range(6, 8), "test": range(8, 10), "all": range(10)}
    for split, rows in parts.items():
        images, y, s = load_celeba(celeba, split=split)
        assert images.files.tolist() == [f"{i + 1:06}.jpg" for i in rows]
        assert images.shape == (len(rows), 3, 64, 64)
        expected = {name: [int(v[i] > 0) for i in rows] for name, v in ATTRIBUTES.items()}
        pd.testing.assert_series_equal(y, pd.Series(expected["Smiling"], name="Smiling"))
        pd.testing.assert_series_equal(s, pd.Series(expected["Male"], name="Male"))


def test_celeba_in_the_folders_of_its_publisher(celeba):
    for folder, name in [
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
        ("Img", "img_align_celeba"),
    ]:
        (celeba / folder).mkdir()
        shutil.move(celeba / name, celeba / folder / name)
    images, y, _ = load_celeba(str(celeba), target="Wearing_Hat", split="test", image_size=32)
    assert y.tolist() == [0, 1] and images[1].shape == (3, 32, 32)


def test_all_of_celeba_needs_no_partition(celeba):
    (celeba / "list_eval_partition.txt").unlink()
    assert len(load_celeba(celeba, split="all")[0]) == N
    with pytest.raises(FileNotFoundError, match=r"expected list_eval_partition.txt or Eval"):
        load_celeba(celeba)


def test_lfw_labels(lfw):
    images, y, s = load_lfw(lfw, target="Smiling", sensitive="Male")
    assert images.shape == (N, 3, 64, 64)
    assert images.files[:4].tolist() == [
        *(f"Ada_Low/Ada_Low_{i:04}.jpg" for i in (1, 2, 3)),
        "Bo_van_der_Berg/Bo_van_der_Berg_0001.jpg",
    ]
    assert y.tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 1, 0] and y.name == "Smiling"
    assert s.tolist() == [0] * 3 + [1] * 6 + [0] and s.name == "Male"
    assert np.allclose(images[5][0], red(3) / 255, atol=0.02)


def test_lfw_as_scikit_learn_stores_it(lfw, tmp_path_factory):
    home = tmp_path_factory.mktemp("data_home")
    shutil.copytree(lfw, home / "lfw_home")
    (home / "lfw_home" / "lfw_funneled").rename(home / "lfw_home" / "lfw")  # funneled=False
    assert len(load_lfw(home, target="Wearing Hat")[0]) == N
    assert len(load_lfw(home / "lfw_home")[0]) == N


def test_people_of_lfw_can_be_kept_together(lfw):
    images, y, _ = load_lfw(lfw)
    people = [file.split("/")[0] for file in images.files]
    for train, test in GroupKFold(3).split(images, y, people):
        ours = [{file.split("/")[0] for file in images[rows].files} for rows in (train, test)]
        assert not ours[0] & ours[1]


@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_several_sensitive_attributes(load, request):
    folder = request.getfixturevalue(load.__name__.removeprefix("load_"))
    images, _, s = load(folder, target="Male", sensitive=["Smiling", "Male"])
    assert list(s) == ["Smiling", "Male"] and s.shape == (len(images), 2)
    _, y, s = load(folder, target="Male", sensitive=("Male",))
    assert s["Male"].equals(y)


def test_pixels(celeba, opened):
    images, _, _ = load_celeba(celeba, split="all")
    image = images[4]
    assert image.shape == (3, 64, 64) and image.dtype == np.float32 and image.flags.c_contiguous
    assert np.allclose(image[0], red(4) / 255, atol=0.01) and image[1:].max() < 0.02
    assert opened == ["000005.jpg"]


def test_normalised_pixels(celeba):
    plain, _, _ = load_celeba(celeba)
    mean, std = (0.485, 0.456, 0.406), [0.229, 0.224, 0.225]
    images, _, _ = load_celeba(celeba, mean=mean, std=std)
    expected = (plain[3] - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert np.allclose(images[3], expected, atol=1e-6) and images[3].dtype == np.float32
    assert np.allclose(load_celeba(celeba, mean=0.5, std=0.5)[0][3], 2 * plain[3] - 1)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (240, 320), (801, 799)])
def test_crop_takes_the_centre(tmp_path, suffix, size):
    # A white square of half the shorter side, in the middle of a black image.
    image, half = Image.new("L", size), min(size) // 4
    x, y = size[0] // 2, size[1] // 2
    image.paste(255, (x - half, y - half, x + half, y + half))
    image.save(tmp_path / f"a.{suffix}", quality=100)
    files = [f"a.{suffix}"]
    whole = ImageFiles(tmp_path, files, image_size=32)[0]
    assert whole[:, 10:22, 10:22].min() > 0.9 and whole[:, :6].max() < 0.1
    assert whole[:, :, :6].max() < 0.1 and whole[:, :, 26:].max() < 0.1
    assert whole.mean() == pytest.approx(0.25, abs=0.02)
    assert ImageFiles(tmp_path, files, image_size=16, crop=half)[0].min() > 0.9
    with pytest.raises(ValueError, match=rf"Got crop=999, but .*a\.{suffix} has {size[0]} by"):
        ImageFiles(tmp_path, files, crop=999)[0]


def test_indexed_like_an_array(celeba, opened):
    images, _, _ = load_celeba(celeba, split="all")
    rows = np.arange(N)
    mask = rows % 3 == 0
    for index in (
        slice(2, 7),
        slice(None, None, -2),
        [3, 1, 1],
        np.array([5, -1]),
        torch.tensor([5, 0]),
        mask,
        mask.tolist(),
        np.array([], dtype=int),
        ([4, 2],),
        (np.array([4, 2]), ...),
        ...,
    ):
        chosen = images[index]
        expected = rows[index].tolist()
        assert isinstance(chosen, ImageFiles) and len(chosen) == len(expected)
        assert chosen.shape == (len(expected), 3, 64, 64)
        assert chosen.files.tolist() == images.files[expected].tolist()
    assert images[2:][::2].files.tolist() == images.files[2::2].tolist()
    assert opened == [] and len(images) == N
    assert np.array_equal(images[-1], images[np.int64(9)])
    assert np.array_equal(images[-1], images[9, ...])
    for index in (N, -N - 1, [N], (0, 1), "000001.jpg"):
        with pytest.raises(IndexError):
            images[index]
    assert len(list(images[7:])) == 3


def test_read_gives_an_array_of_what_is_asked_for(celeba, opened):
    images, _, _ = load_celeba(celeba, split="all")
    pixels = images.read([7, 2])
    assert opened == ["000008.jpg", "000003.jpg"]
    assert pixels.dtype == np.float32 and pixels.shape == (2, 3, 64, 64)
    assert np.array_equal(pixels, np.stack([images[7], images[2]]))
    assert images.read().shape == images.shape
    assert images.read(slice(0)).shape == (0, 3, 64, 64)
    assert np.array_equal(np.asarray(images[:3]), images.read(slice(3)))


def test_splitting_opens_no_file(celeba, opened):
    images, y, s = load_celeba(celeba, split="all")
    parts = train_test_split(images, y, s, test_size=0.3, stratify=y, random_state=0)
    train, test = parts[:2]
    assert len(train) == 7 and len(test) == 3
    assert not set(train.files) & set(test.files)
    assert y[parts[3].index].tolist() == [y[int(f[:6]) - 1] for f in test.files]
    assert opened == []


def test_copies_hold_no_pixels(celeba, opened):
    images, _, _ = load_celeba(celeba)
    for copied in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        assert copied.files.tolist() == images.files.tolist() and copied.shape == images.shape
    assert len(pickle.dumps(images)) < 2000 and opened == []
    assert "ImageFiles" in repr(images)


def test_a_loader_reads_batch_by_batch(celeba, opened):
    images, _, _ = load_celeba(celeba, split="all")
    for i, batch in enumerate(torch.utils.data.DataLoader(images, batch_size=4)):
        assert batch.dtype == torch.float32 and batch.shape[1:] == (3, 64, 64)
        assert len(opened) == min(4 * (i + 1), N)


def test_a_skorch_net_streams_it(celeba, opened):
    images, y, _ = load_celeba(celeba, split="all")
    net = tiny_net(batch_size=4)
    net.fit(images, y.to_numpy(np.float32))
    assert sorted(opened) == sorted(images.files)  # one epoch
    opened.clear()
    assert net.predict_proba(images[2:5]).shape == (3, 2)
    assert opened == images.files[2:5].tolist()
    opened.clear()
    scores = cross_val_score(tiny_net(), images, y.to_numpy(np.float32), cv=2, error_score="raise")
    assert scores.shape == (2,) and len(opened) == 2 * N


def test_a_skorch_net_splits_it(celeba):
    images, y, _ = load_celeba(celeba, split="all")
    net = tiny_net().set_params(train_split=ValidSplit(2, stratified=True))
    assert "valid_loss" in net.fit(images, y.to_numpy(np.float32)).history[-1]


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_a_pruner_streams_it_into_a_skorch_net(celeba):
    images, y, _ = load_celeba(celeba, split="all")
    net = tiny_net(batch_size=4)
    pruner = FairPruner(net, constraint=None, sparsity=0.3, max_epochs=1, random_state=0)
    scores = [pruner.fit(X, y).decision_function(X) for X in (images, images.read())]
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "near"), [("smiling", "'Smiling'"), ("Wearing hat", "'Wearing.Hat'")]
)
@pytest.mark.parametrize("argument", ["target", "sensitive"])
@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_unknown_attribute(load, argument, name, near, request):
    folder = request.getfixturevalue(load.__name__.removeprefix("load_"))
    with pytest.raises(ValueError, match=rf"Got attribute '{name}', .*attr.*\.txt, such as {near}"):
        load(folder, **{argument: name})
    with pytest.raises(ValueError, match=r"'zzz'.* such as 'Male', 'Smiling', 'Wearing.Hat'\."):
        load(folder, **{argument: "zzz"})


def test_unknown_split(celeba):
    with pytest.raises(ValueError, match=r"Got split='dev', but expected one of \['train'"):
        load_celeba(celeba, split="dev")


@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_nothing_there(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"Got folder={tmp_path}, but expected l.*_attr"):
        load(tmp_path)


@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_no_folder_of_images(load, request):
    folder = request.getfixturevalue(load.__name__.removeprefix("load_"))
    name = "img_align_celeba" if load is load_celeba else "lfw_funneled"
    shutil.rmtree(folder / name)
    with pytest.raises(FileNotFoundError, match=rf"but expected {name} or"):
        load(folder)


@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_missing_images(load, request):
    folder = request.getfixturevalue(load.__name__.removeprefix("load_"))
    files = sorted(load(folder)[0].files)
    root = load(folder)[0].folder
    for file in files[1:3]:
        (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"2 of the {len(files)} images .*{files[1]}"):
        load(folder)


def test_only_images_of_the_split_must_be_there(celeba):
    (celeba / "img_align_celeba" / "000010.jpg").unlink()
    assert len(load_celeba(celeba, split="train")[0]) == 6
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images"):
        load_celeba(celeba, split="test")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"{N}\n", "", "expected a line with a count, one with names"),
        ("Male Smiling", "Male", "expected a line with a count, one with names"),
        (f"{N}\n", "11\n", "Got 10 images in .*, but its first line says 11"),
        ("000002.jpg -1", "000002.jpg  3", "expected -1 or 1 for each image; 000002.jpg is"),
        ("000003.jpg  1 -1 -1", "000003.jpg  1", "000003.jpg is without"),
        ("000003.jpg  1 -1", "000003.jpg  1  x", "000003.jpg is without"),
    ],
)
def test_another_layout_of_celeba(celeba, old, new, message):
    change(celeba / "list_attr_celeba.txt", old, new)
    with pytest.raises(ValueError, match=message):
        load_celeba(celeba)


@pytest.mark.parametrize(("old", "new"), [("000004.jpg 0\n", ""), ("000004.jpg 0", "000004.jpg 3")])
def test_another_layout_of_the_partition(celeba, old, new):
    change(celeba / "list_eval_partition.txt", old, new)
    with pytest.raises(ValueError, match=r"expected 0, 1 or 2 for each image; 000004.jpg is"):
        load_celeba(celeba)


def test_another_layout_of_lfw(lfw):
    path = lfw / "lfw_attributes.txt"
    change(path, "Cy\t1\t-0.0125\t-1.5", "Cy\t1\t-0.0125\t")
    with pytest.raises(ValueError, match=r"expected numbers for each image; Cy/Cy_0001.jpg is"):
        load_lfw(lfw)
    change(path, "person\timagenum", "person imagenum")
    with pytest.raises(ValueError, match="with tabs between names"):
        load_lfw(lfw)
    path.write_text("")
    with pytest.raises(ValueError, match="with tabs between names"):
        load_lfw(lfw)


def test_damaged_image(celeba):
    images, _, _ = load_celeba(celeba)
    path = celeba / "img_align_celeba" / "000001.jpg"
    for damaged in (path.read_bytes()[:-300], b"no image", b""):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=r"Got .*000001.jpg, which cannot be read as an image: "):
            images[0]
    path.unlink()
    with pytest.raises(OSError, match=r"000001.jpg, which cannot be read .*No such file"):
        images[0]


@pytest.mark.parametrize("name", ["image_size", "crop"])
def test_sizes_are_positive(tmp_path, name):
    with pytest.raises(ValueError, match=rf"Got {name}=0, but expected a positive integer"):
        ImageFiles(tmp_path, [], **{name: 0})


@pytest.mark.parametrize("load", [load_celeba, load_lfw])
def test_without_pillow(load, request, monkeypatch):
    folder = request.getfixturevalue(load.__name__.removeprefix("load_"))
    real = builtins.__import__

    def no_pillow(name, *args, **kwargs):
        if name.partition(".")[0] == "PIL":
            raise ImportError("No module named 'PIL'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ImportError, match=r"pip install fairprune_sk\[images\]"):
        load(folder)


def test_fairpruner_streams_images_in_both_phases(tmp_path, monkeypatch):
    """A fit and its predictions read batches from disk, and never the whole folder at once."""
    from fairprune_sk import FairPruner, fairness_report
    from fairprune_sk.fitting.resident import StreamedTable

    class Small(nn.Module):
        def __init__(self, n_outputs=1):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, stride=2)
            self.output = nn.Linear(6, n_outputs)

        def forward(self, X):
            return self.output(torch.relu(self.conv(X)).mean((2, 3)))

    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    names = []
    for i, label in enumerate(y):
        pixels = np.uint8(rng.integers(0, 100, (16, 16, 3)) + 120 * label)
        names.append(f"{i}.png")
        Image.fromarray(pixels).save(tmp_path / names[-1])
    images = ImageFiles(tmp_path, names, image_size=16)
    sex = np.where(np.arange(300) % 3 == 0, "Female", "Male")
    sizes, rows = [], StreamedTable._take
    monkeypatch.setattr(
        StreamedTable,
        "_take",
        lambda self, index, pool: (lambda part: sizes.append(len(part)) or part)(
            rows(self, index, pool)
        ),
    )
    pruner = FairPruner(
        Small,
        granularity="neuron",
        sparsity=0.5,
        constraint="demographic_parity",
        tolerance=1.0,
        tolerance_on="training",
        max_epochs=40,
        batch_size=100,
        random_state=0,
    ).fit(images, y, sensitive_features=sex)
    assert pruner.score(images, y) > 0.9
    assert pruner.was_fitted_on(images) and not pruner.was_fitted_on(images[:200])
    assert pruner.network_.conv.out_channels < 6
    assert len(sizes) > 3 * 40 and max(sizes) <= 256
    report = fairness_report(pruner, images, y, sensitive_features=sex)
    assert report.overall.loc["accuracy", "pruned"] > 0.9
    with pytest.raises(ValueError, match="default network takes a table"):
        FairPruner(constraint=None).fit(images, y)
