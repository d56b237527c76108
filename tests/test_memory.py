"""Dense networks that are kept: the same result, without the same training twice."""

from __future__ import annotations

import importlib
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch import NeuralNetBinaryClassifier
from torch import nn

from fairprune_sk import BilevelSolver, FairPruner
from fairprune_sk.fitting import dense
from fairprune_sk.fitting.memory import digest_of
from fairprune_sk.networks.transformer import TabularTransformer
from fairprune_sk.networks.vision import ResNet10

pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning"),
]


class Mlp(nn.Module):
    def __init__(self, n_features=4, hidden=8):
        super().__init__()
        # Dropout draws random numbers while it trains: a remembered network must not lack them.
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 1)
        )

    def forward(self, X):
        return self.layers(X)


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), np.arange(120) % 2


@pytest.fixture
def trainings(monkeypatch):
    """List that grows with every dense network that is trained."""
    counted = []
    original = dense.fit_dense

    def fit_dense(*args, **kwargs):
        counted.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(dense, "fit_dense", fit_dense)
    return counted


def quick(memory=None, **kwargs):
    options = {
        "estimator": Mlp,
        "constraint": "demographic_parity",
        "tolerance": 1.0,
        "tolerance_on": "training",  # one dense network, not three
        "sparsity": 0.5,
        "max_epochs": 2,
        "batch_size": 50,
        "random_state": 0,
    }
    memory = None if memory is None else str(memory)
    return FairPruner(**options | {"memory": memory} | kwargs)


def assert_same(ours, theirs, X):
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    np.testing.assert_array_equal(ours.predict_dense(X), theirs.predict_dense(X))
    for mine, other in [
        (ours.masks_, theirs.masks_),
        (ours.network_.state_dict(), theirs.network_.state_dict()),
        (ours.dense_estimator_.module_.state_dict(), theirs.dense_estimator_.module_.state_dict()),
    ]:
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], value) for key, value in other.items())
    assert ours.history_[:, "train_loss"] == theirs.history_[:, "train_loss"]
    losses = [pruner.dense_estimator_.history[:, "train_loss"] for pruner in (ours, theirs)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("estimator", "solver"),
    [(None, "random"), (Mlp, "bilevel"), (Mlp, "random"), (Mlp, "lottery_ticket")],
)
def test_a_fit_is_the_same_with_and_without_memory_and_when_it_remembers(
    numbers, tmp_path, trainings, estimator, solver
):
    X, y, s = numbers
    options = {"estimator": estimator, "solver": solver, "max_epochs": 2}
    without = quick(**options).fit(X, y, sensitive_features=s)
    first = quick(tmp_path, **options).fit(X, y, sensitive_features=s)
    second = quick(tmp_path, **options).fit(X, y, sensitive_features=s)
    assert len(trainings) == 2
    assert_same(first, without, X)
    assert_same(second, without, X)


def test_generators_outside_are_left_alone_when_a_network_is_remembered(numbers, tmp_path):
    X, y, s = numbers
    for _ in range(2):
        torch.manual_seed(7)
        quick(tmp_path).fit(X, y, sensitive_features=s)
        drawn = torch.rand(1)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(1))


def test_a_remembered_network_belongs_to_each_fit(numbers, tmp_path):
    X, y, s = numbers
    first, second = (quick(tmp_path).fit(X, y, sensitive_features=s) for _ in range(2))
    before = second.predict_dense(X)
    with torch.no_grad():
        for parameter in first.dense_estimator_.module_.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(second.predict_dense(X), before)
    np.testing.assert_array_equal(
        quick(tmp_path).fit(X, y, sensitive_features=s).predict_dense(X), before
    )


def test_what_comes_after_the_dense_network_does_not_train_another(numbers, tmp_path, trainings):
    X, y, s = numbers
    for change in [
        {"sparsity": 0.5},
        {"sparsity": 0.7},
        {"solver": "magnitude"},
        {"solver": BilevelSolver(gamma=2.0)},
        {"solver": "snip", "constraint": None},
        {"tolerance": 0.5},
        {"constraint": "equalized_odds"},
        {"granularity": "neuron"},
        {"max_epochs": 1},
        {"lr": 0.01},
    ]:
        quick(tmp_path, **change).fit(X, y, sensitive_features=s)
    quick(tmp_path).fit(X, y, sensitive_features=1 - s)
    assert len(trainings) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1},
        {"estimator": lambda: Mlp(hidden=9)},
        {"estimator": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))},
        {"class_weight": {0: 1.0, 1: 2.0}},
        {"y": lambda y: np.r_[1 - y[:1], y[1:]]},
        {"X": lambda X: np.r_[X[:-1], X[-1:] + 1.0]},
        {"X": lambda X: X[::-1]},
        {"sample_weight": np.r_[2.0, np.ones(119)]},
    ],
    ids=["random_state", "size", "module", "class_weight", "y", "X", "order", "sample_weight"],
)
def test_what_the_dense_network_depends_on_trains_another(numbers, tmp_path, trainings, change):
    X, y, s = numbers
    quick(tmp_path).fit(X, y, sensitive_features=s)
    change = dict(change)
    X, y = change.pop("X", np.asarray)(X), change.pop("y", np.asarray)(y)
    weight = change.pop("sample_weight", None)
    if "estimator" in change:
        torch.manual_seed(0)
        change["estimator"] = change["estimator"]()
    quick(tmp_path, **change).fit(X, y, sensitive_features=s, sample_weight=weight)
    assert len(trainings) == 2


def test_modules_of_other_initial_weights_are_other_modules(numbers, tmp_path, trainings):
    X, y, s = numbers
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        quick(tmp_path, estimator=Mlp()).fit(X, y, sensitive_features=s)
    assert len(trainings) == 2


def test_networks_of_skorch_are_not_kept(numbers, tmp_path, trainings):
    X, y, s = numbers
    net = NeuralNetBinaryClassifier(Mlp, max_epochs=2, verbose=0)
    for _ in range(2):
        quick(tmp_path, estimator=net).fit(X, y, sensitive_features=s)
    assert len(trainings) == 2
    frozen = FrozenEstimator(net.fit(X, y.astype(np.float32)))
    quick(tmp_path, estimator=frozen).fit(X, y, sensitive_features=s)
    assert not list(tmp_path.rglob("*.pkl"))


def test_a_network_whose_class_is_not_to_be_found_is_trained_each_time(
    numbers, tmp_path, trainings
):
    # As in another process, for a class of the notebook that started it.
    X, y, s = numbers
    stranger = type("Stranger", (Mlp,), {})
    for n in (1, 2):
        quick(tmp_path, estimator=stranger).fit(X, y, sensitive_features=s)
        assert len(trainings) == n


def test_a_memory_of_joblib_works_as_a_path_does(numbers, tmp_path, trainings):
    X, y, s = numbers
    memory = joblib.Memory(str(tmp_path), verbose=0)
    ours = quick().set_params(memory=memory).fit(X, y, sensitive_features=s)
    assert len(trainings) == 1
    assert_same(quick(tmp_path).fit(X, y, sensitive_features=s), ours, X)
    assert len(trainings) == 1
    memory.clear(warn=False)
    quick().set_params(memory=memory).fit(X, y, sensitive_features=s)
    assert len(trainings) == 2


def test_a_search_over_sparsity_trains_one_dense_network_for_each_fold(
    numbers, tmp_path, trainings
):
    X, y, s = numbers
    grid = {"sparsity": [0.3, 0.5, 0.7]}
    folds = StratifiedKFold(2)
    searches = [
        GridSearchCV(quick(memory, constraint=None), grid, cv=folds, refit=False).fit(X, y)
        for memory in (tmp_path, None)
    ]
    assert len(trainings) == 2 + 6
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[name] for search in searches))


def test_a_warm_start_goes_on_from_a_remembered_network(numbers, tmp_path, trainings):
    X, y, s = numbers
    warm = []
    for memory in (tmp_path, tmp_path, None):
        pruner = quick(memory, warm_start=True).fit(X, y, sensitive_features=s)
        warm.append(pruner.set_params(sparsity=0.7).fit(X, y, sensitive_features=s))
    assert len(trainings) == 2
    np.testing.assert_array_equal(warm[0].predict_proba(X), warm[2].predict_proba(X))
    np.testing.assert_array_equal(warm[1].predict_proba(X), warm[2].predict_proba(X))


def test_a_training_that_fails_is_not_remembered(numbers, tmp_path, trainings, monkeypatch):
    X, y, s = numbers

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fairprune_sk.fitting.dense.train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path).fit(X, y, sensitive_features=s)
    pruner = quick(tmp_path).fit(X, y, sensitive_features=s)
    assert len(trainings) == 2
    assert_same(quick().fit(X, y, sensitive_features=s), pruner, X)


@pytest.mark.parametrize("memory", [3, True, {"location": "here"}])
def test_what_is_no_memory_is_refused(numbers, trainings, memory):
    X, y, s = numbers
    with pytest.raises(ValueError, match="The 'memory' parameter of FairPruner"):
        quick().set_params(memory=memory).fit(X, y, sensitive_features=s)
    assert not trainings


class Net(nn.Module):
    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, X):
        return self.layers(self.gain * X)


def test_a_hyperparameter_that_repr_does_not_show_is_another_module(numbers, tmp_path, trainings):
    X, y, _ = numbers
    for gain in (1.0, -3.0):
        torch.manual_seed(0)
        pruner = quick(tmp_path, estimator=Net(gain), constraint=None).fit(X, y)
        assert pruner.dense_estimator_.module_.gain == gain
    assert len(trainings) == 2


def test_the_dense_network_of_a_small_table_is_one_for_all_constraints_and_groups(
    table, tmp_path, trainings
):
    X, y, s = table
    X, y, s = X[:800], y[:800], s[:800]
    predictions = []
    for column, constraint in [
        ("sex", "equalized_odds"),
        ("sex", "demographic_parity"),
        ("origin", "equalized_odds"),
        ("sex", None),
    ]:
        pruner = FairPruner(
            constraint=constraint,
            tolerance=1.0,
            tolerance_on="training",  # halves of the rows have networks of their own
            sparsity=0.5,
            max_epochs=2,
            random_state=0,
            memory=str(tmp_path),
        )
        pruner.fit(X, y, sensitive_features=s[column])
        predictions.append(pruner.predict_dense(X))
    assert len(trainings) == 1
    assert all((dense == predictions[0]).all() for dense in predictions)


def test_a_memory_that_cannot_remember_says_so_and_keeps_nothing(numbers, tmp_path):
    X, y, _ = numbers
    with pytest.warns(UserWarning, match="memory without random_state.*to an integer") as caught:
        quick(tmp_path, constraint=None, random_state=None).fit(X, y)
    assert caught[0].filename == __file__ and not list(tmp_path.iterdir())


CODE = {
    "own_helpers": """
import torch
def bend(X):
    return torch.relu(X)
""",
    "own_network": """
import functools
import own_helpers
import torch
from own_helpers import bend
from torch import nn

GAIN = 1.5

def twice(function):
    @functools.wraps(function)
    def inner(self, X):
        return function(self, function(self, X))
    return inner

@functools.cache
def shift():
    return 0.25

def again(depth):
    return again(depth - 1) if depth else 0.5

class Plan:
    def first(self):
        return 1.0

class Base(nn.Module):
    offset = 0.0
    def between(self, X, by=2.0):
        return [by * x for x in X]
    @property
    def slope(self):
        return 3.0
    @staticmethod
    def last(X):
        return X + again(2)

class Own(Base):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.plan, self.bend = Plan(), own_helpers.bend
    @twice
    def hidden(self, X):
        return GAIN * bend(X) + shift()
    def forward(self, X):
        return self.layer(self.last(torch.relu(own_helpers.bend(self.hidden(X)))))
""",
}


@pytest.fixture
def own_network(tmp_path, monkeypatch):
    """Give a function that makes a network of a user's modules, with one piece of code changed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(old="", new=""):
        for name, source in CODE.items():
            (tmp_path / f"{name}.py").write_text(source.replace(old, new) if old else source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        return importlib.import_module("own_network").Own()

    return make


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.relu(own_helpers", "torch.cos(own_helpers"),
        ("return torch.relu(X)", "return torch.cos(X)"),
        ("GAIN = 1.5", "GAIN = 2.5"),
        ("function(self, function(self, X))", "function(self, X)"),
        ("return 0.25", "return 0.75"),
        ("else 0.5", "else 1.5"),
        ("return 1.0", "return 2.0"),
        ("offset = 0.0", "offset = 1.0"),
        ("by=2.0", "by=3.0"),
        ("by * x", "by - x"),
        ("return 3.0", "return 4.0"),
        ("return X + again", "return X - again"),
    ],
    ids=lambda text: text,
)
def test_other_code_is_another_network(own_network, old, new):
    before, changed, back = (digest_of(own_network(*change)) for change in [(), (old, new), ()])
    assert before == back != changed


def test_comments_and_lines_are_no_code(own_network):
    before = digest_of(own_network())
    assert digest_of(own_network("GAIN = 1.5", "# the gain\n\nGAIN = 1.5")) == before


def test_a_forward_that_was_changed_trains_another(own_network, numbers, tmp_path, trainings):
    X, y, _ = numbers
    for change in [(), ("torch.relu(own_helpers", "torch.cos(own_helpers")]:
        network = own_network(*change)
        ours, theirs = (
            quick(memory, estimator=network, constraint=None).fit(X, y)
            for memory in (tmp_path / "cache", None)
        )
        assert_same(ours, theirs, X)
    assert len(trainings) == 4


class Pair(nn.Module):
    """Calls a function that it is given."""

    def __init__(self, bend):
        super().__init__()
        self.layer, self.bend = nn.Linear(4, 1), bend

    def forward(self, X):
        return self.layer(self.bend(X))


def test_a_network_with_a_function_that_no_file_can_hold_is_not_kept(numbers, tmp_path, trainings):
    X, y, _ = numbers
    for _ in range(2):
        quick(tmp_path, estimator=Pair(lambda X: X), constraint=None).fit(X, y)
    assert len(trainings) == 2 and not list(tmp_path.rglob("*.pkl"))


def test_networks_of_the_package_can_be_told_apart():
    networks = [TabularTransformer(5, 1, 8, 2, 1, 16), ResNet10(), Mlp()]
    digests = [[digest_of(layer) for layer in network.modules()] for network in networks]
    assert len({digest[0] for digest in digests}) == len(networks)


def test_a_remembered_network_that_was_damaged_is_trained_again(numbers, tmp_path, trainings):
    X, y, s = numbers
    without = quick().fit(X, y, sensitive_features=s)
    quick(tmp_path).fit(X, y, sensitive_features=s)
    (path,) = tmp_path.rglob("output.pkl")
    content = path.read_bytes()
    weight = without.dense_estimator_.module_.layers[0].weight.detach().numpy().tobytes()
    for place in (content.index(weight) + 3, len(content) // 2):
        damaged = bytearray(content)
        damaged[place] ^= 0x80  # the sign of a weight, in the first place
        path.write_bytes(damaged)
        n = len(trainings)
        assert_same(quick(tmp_path).fit(X, y, sensitive_features=s), without, X)
        assert len(trainings) == n + 1
        assert_same(quick(tmp_path).fit(X, y, sensitive_features=s), without, X)
        assert len(trainings) == n + 1
