"""skorch nets inside FairPruner, as a user of skorch runs them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDict, predefined_split
from torch import nn
from torch.optim.lr_scheduler import StepLR

from fairprune_sk import FairPruner, load

# Networks of a few epochs may end with predicting one class hardly ever.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")

# ------------------------------------------------------------------- data, modules, nets, pruner


@pytest.fixture(scope="module")
def numbers():
    """300 rows of four numbers, noisy labels, two groups that differ in the first number."""
    rng = np.random.default_rng(0)
    group = np.tile(["a", "b"], 150)
    X = (rng.normal(size=(300, 4)) + np.outer(group == "b", [1, 0, 0, 0])).astype(np.float32)
    y = (X[:, 0] + X[:, 1] + rng.normal(size=300) > 0.5).astype(int)
    return X, y, group


@pytest.fixture(autouse=True)
def _seed():
    """Nets that are fitted before they are frozen start from the same weights each time."""
    torch.manual_seed(0)


@pytest.fixture
def no_training(monkeypatch):
    """Fail when anything is trained."""

    def trained(*args, **kwargs):
        pytest.fail("reached the training")

    monkeypatch.setattr("fairprune_sk.fitting.dense.train", trained)
    monkeypatch.setattr("fairprune_sk.fitting.pruning.train", trained)


class Mlp(nn.Module):
    """Logits of shape (n, n_outputs)."""

    def __init__(self, n_outputs=1, n_hidden=8, n_features=4):
        super().__init__()
        self.first = nn.Linear(n_features, n_hidden)
        self.last = nn.Linear(n_hidden, n_outputs)

    def forward(self, X):
        return self.last(torch.relu(self.first(X)))


class Flat(Mlp):
    """One logit for each row, of shape (n,)."""

    def forward(self, X):
        return super().forward(X).squeeze(-1)


class Sigmoid(Mlp):
    def forward(self, X):
        return super().forward(X).sigmoid()


class Softmax(Mlp):
    def __init__(self, n_outputs=2, **kwargs):
        super().__init__(n_outputs, **kwargs)

    def forward(self, X):
        return super().forward(X).softmax(-1)


class LogSoftmax(Softmax):
    def forward(self, X):
        return super().forward(X).log()


class LogProbabilityNet(NeuralNetClassifier):
    """NLLLoss on log-probabilities, as torch means it; skorch takes the logarithm itself."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return NeuralNet.get_loss(self, y_pred, y_true, X, training)


class WithHidden(Mlp):
    """Logits, and the hidden layer beside them."""

    def forward(self, X):
        hidden = torch.relu(self.first(X))
        return self.last(hidden), hidden


class Regularised(NeuralNetBinaryClassifier):
    """A loss that reads both outputs of its module, and records a part of itself."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        logits, hidden = y_pred
        penalty = hidden.square().mean()
        self.history.record_batch("penalty", penalty.item())
        return super().get_loss(logits, y_true, *args, **kwargs) + 0.1 * penalty


def binary(module=Mlp, cls=NeuralNetBinaryClassifier, **kwargs):
    return cls(module, **{"lr": 0.1, "max_epochs": 4, "verbose": 0} | kwargs)


def softmax(module=Softmax, cls=NeuralNetClassifier, **kwargs):
    return cls(module, **{"lr": 0.1, "max_epochs": 4, "verbose": 0} | kwargs)


LOGITS = {"criterion": nn.CrossEntropyLoss}


def two_logits(module=Mlp, n_classes=2, **kwargs):
    if isinstance(module, type):
        kwargs["module__n_outputs"] = n_classes
    return softmax(module, **LOGITS | kwargs)


def quick(estimator, **kwargs):
    settings = {"sparsity": 0.5, "max_epochs": 4, "tolerance": 0.9, "random_state": 0}
    settings["tolerance_on"] = "training"  # one fit, not three
    return FairPruner(estimator, **settings | kwargs)


def still(estimator, **kwargs):
    """Prune nothing and move nothing: one step of no size, so that the network stays dense."""
    return quick(estimator, **{"sparsity": 0.0, "lr": 1e-12, "mask_lr": 0.0, "max_epochs": 1})


def state_of(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


NETS = {"NeuralNetBinaryClassifier": binary, "NeuralNetClassifier": softmax}
both = pytest.mark.parametrize("make", NETS.values(), ids=NETS)

# ------------------------------------------------------------------------- unfitted, and frozen


@both
def test_an_unfitted_net_is_cloned_and_trained(numbers, make):
    X, y, s = numbers
    module, stop = Mlp(1 if make is binary else 2), EarlyStopping(patience=50)
    net = make(module, callbacks=[stop], **({} if make is binary else LOGITS))
    before, weights, callback = dict(vars(net)), module.state_dict(), dict(vars(stop))
    weights = {name: value.clone() for name, value in weights.items()}
    pruner = quick(net).fit(X, y, sensitive_features=s)
    assert vars(net) == before and not net.initialized_
    assert same_state(module.state_dict(), weights) and vars(stop) == callback
    dense = pruner.dense_estimator_
    assert type(dense) is type(net) and len(dense.history) == 4
    np.testing.assert_array_equal(pruner.predict_dense(X), dense.predict(X))
    assert pruner.sparsity_ >= 0.5


@both
def test_a_fitted_net_is_trained_anew_unless_it_is_frozen(numbers, make):
    X, y, s = numbers
    net = make().fit(X, y.astype(np.float32) if make is binary else y)
    before = state_of(net)
    fresh = quick(make()).fit(X, y, sensitive_features=s).dense_estimator_
    trained = quick(net).fit(X, y, sensitive_features=s).dense_estimator_
    assert same_state(state_of(trained), state_of(fresh))
    assert same_state(state_of(net), before)


@both
@pytest.mark.parametrize("training", [True, False], ids=["left training", "left evaluating"])
def test_a_frozen_net_is_pruned_as_it_is_and_stays_so(numbers, make, training):
    X, y, s = numbers
    net = make(train_split=None).fit(X, y.astype(np.float32) if make is binary else y)
    net.module_.train(training)
    before, history, loss = state_of(net), copy.deepcopy(net.history), net.criterion_
    weighted = {"sensitive_features": s, "sample_weight": 1.0 + y}
    pruner = quick(FrozenEstimator(net)).fit(X, y, **weighted)
    assert pruner.dense_estimator_ is net
    assert same_state(state_of(net), before) and net.history == history
    assert net.module_.training is training
    assert net.criterion_ is loss and loss.reduction == "mean"
    assert not same_state(pruner.network_.state_dict(), before)
    kept = still(FrozenEstimator(net)).fit(X, y, sensitive_features=s)
    np.testing.assert_allclose(kept.predict_proba(X), net.predict_proba(X), atol=1e-5)


def test_the_dense_net_of_one_fit_can_be_frozen_for_the_next(numbers):
    X, y, s = numbers
    first = quick(Mlp).fit(X, y, sensitive_features=s)
    again = quick(FrozenEstimator(first.dense_estimator_)).fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(again.predict_dense(X), first.predict_dense(X))
    assert len(again.dense_estimator_.history) == len(first.dense_estimator_.history)


def test_a_frozen_net_of_other_classes_is_refused(numbers, no_training):
    X, y, s = numbers
    net = two_logits(n_classes=3).fit(X, y + (X[:, 2] > 0))
    with pytest.raises(ValueError, match=r"classes \[.*0.*1.*2.*\], but y has"):
        quick(FrozenEstimator(net)).fit(X, y, sensitive_features=s)


@both
def test_labels_are_encoded_for_the_net_and_decoded_after(numbers, make):
    X, y, s = numbers
    pruner = quick(make()).fit(X, np.array(["no", "yes"])[y], sensitive_features=s)
    codes = quick(make()).fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(pruner.predict(X) == "yes", codes.predict(X) == 1)
    np.testing.assert_array_equal(pruner.predict_dense(X) == "yes", codes.predict_dense(X) == 1)


# ------------------------------------------------------------------- who owns which setting


class Settings(Callback):
    """Settings of each phase, as a callback meets them."""

    def on_train_begin(self, net, **kwargs):
        self.seen_ = {
            "optimizer": type(net.optimizer_),
            "lr": net.optimizer_.param_groups[0]["lr"],
            "max_epochs": net.max_epochs,
        }


def test_the_nets_settings_rule_the_dense_phase_and_the_pruners_the_pruning_phase(numbers):
    X, y, s = numbers
    net = binary(
        optimizer=torch.optim.Adagrad,
        lr=0.07,
        max_epochs=3,
        batch_size=50,
        train_split=None,
        callbacks=[("settings", Settings())],
    )
    watch = Settings()
    pruner = quick(net, lr=0.003, max_epochs=4, batch_size=100, callbacks=[watch])
    pruner.fit(X, y, sensitive_features=s)
    dense = pruner.dense_estimator_
    seen = dict(dense.callbacks_)["settings"].seen_
    assert seen == {"optimizer": torch.optim.Adagrad, "lr": 0.07, "max_epochs": 3}
    assert dense.history[:, "batches", :, "train_batch_size"] == [[50] * 6] * 3
    assert watch.seen_ == {"optimizer": torch.optim.AdamW, "lr": 0.003, "max_epochs": 4}
    assert pruner.history_[:, "batches", :, "train_batch_size"] == [[100] * 3] * 4
    assert pruner.n_iter_ == 12


def test_the_nets_optimizer_trains_with_its_parameter_groups(numbers):
    X, y, s = numbers
    torch.manual_seed(0)
    module = Mlp()
    groups = [("first.*", {"lr": 0.0})]
    net = binary(module, optimizer__param_groups=groups, optimizer__momentum=0.9)
    dense = quick(net).fit(X, y, sensitive_features=s).dense_estimator_
    assert dense.optimizer_.param_groups[0]["momentum"] == 0.9
    assert torch.equal(dense.module_.first.weight, module.first.weight)
    assert not torch.equal(dense.module_.last.weight, module.last.weight)


def test_the_nets_iterators_hand_out_the_batches_of_the_dense_phase(numbers):
    X, y, s = numbers

    class Loader(torch.utils.data.DataLoader):
        lengths = []

        def __iter__(self):
            self.lengths.append(len(self))
            return super().__iter__()

    net = binary(
        batch_size=100,
        iterator_train=Loader,
        iterator_train__drop_last=True,
        iterator_valid__batch_size=30,
    )
    dense = quick(net).fit(X, y, sensitive_features=s).dense_estimator_
    assert Loader.lengths == [2, *[2] * 4]  # a look at the rows before the training; four epochs
    assert dense.history[:, "batches", :2, "train_batch_size"] == [[100, 100]] * 4
    assert dense.history[:, "valid_batch_count"] == [2] * 4


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("split", "n_train", "n_valid"),
    [("default", 240, 60), (ValidSplit(2), 150, 150), (None, 300, 0), ("predefined", 300, 40)],
    ids=["default", "ValidSplit", "None", "predefined_split"],
)
def test_train_split_holds_rows_out_of_the_dense_phase_only(
    numbers, split, n_train, n_valid, weighted
):
    X, y, s = numbers
    options = {"train_split": split}
    if split == "default":
        options = {}
    if split == "predefined":
        options = {"train_split": predefined_split(Dataset(X[:40], y[:40].astype(np.float32)))}
    pruner = quick(binary(**options, batch_size=20))
    pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + y if weighted else None)
    history = pruner.dense_estimator_.history

    def rows(name):
        return sum(batch.get(name, 0) for batch in history[-1, "batches"])

    assert rows("train_batch_size") == n_train
    assert rows("valid_batch_size") == n_valid
    assert ("valid_loss" in history[-1]) == ("valid_acc" in history[-1]) == (n_valid > 0)
    assert sum(b["train_batch_size"] for b in pruner.history_[-1, "batches"]) == 300


# ------------------------------------------------------------------------- callbacks, history


def test_early_stopping_ends_the_dense_phase(numbers):
    X, y, s = numbers
    stop = EarlyStopping(patience=2, threshold=10.0, threshold_mode="abs")
    pruner = quick(binary(max_epochs=50, callbacks=[stop])).fit(X, y, sensitive_features=s)
    assert len(pruner.dense_estimator_.history) == 3  # the first, and two that are no better
    assert len(pruner.history_) == 4


class Ruin(Callback):
    """Forget in the last epoch what the others taught."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == net.max_epochs:
            with torch.no_grad():
                for parameter in net.module_.parameters():
                    parameter.fill_(1.0)


def test_early_stopping_restores_the_best_epoch(numbers):
    X, y, s = numbers
    stop = EarlyStopping("train_loss", load_best=True, sink=lambda text: None)
    net = binary(callbacks=[Ruin(), stop], train_split=None)
    dense = quick(net).fit(X, y, sensitive_features=s).dense_estimator_
    *_, best, last = dense.history[:, "train_loss"]
    assert BCE(dense.forward(X), torch.from_numpy(y).float()) < best < last / 2


@pytest.mark.parametrize("weighted", [False, True])
def test_checkpoint_loads_the_best_epoch_and_that_is_pruned(numbers, tmp_path, weighted):
    X, y, s = numbers
    best = Checkpoint(
        "train_loss_best", dirname=tmp_path / "dense", f_pickle="net.pkl", load_best=True
    )
    pruner = still(binary(callbacks=[Ruin(), best], train_split=None))
    pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + y if weighted else None)
    assert len(pruner.dense_estimator_.history) == 3  # Checkpoint loads the history as well
    saved = torch.load(tmp_path / "dense" / "params.pt")
    net = pickle.loads((tmp_path / "dense" / "net.pkl").read_bytes())
    assert type(net) is NeuralNetBinaryClassifier and same_state(state_of(net), saved)
    assert vars(net).keys() == vars(pruner.dense_estimator_).keys()  # no weights of a batch
    assert same_state(state_of(pruner.dense_estimator_), saved)
    module = Mlp()
    module.load_state_dict(saved)
    expected = module(torch.from_numpy(X)).detach().numpy()[:, 0]
    np.testing.assert_allclose(pruner.decision_function(X), expected, atol=1e-5)


def test_lr_scheduler_drives_the_dense_phase(numbers):
    X, y, s = numbers
    halve = LRScheduler(StepLR, step_size=1, gamma=0.5)
    pruner = quick(binary(lr=0.1, callbacks=[halve])).fit(X, y, sensitive_features=s)
    assert pruner.dense_estimator_.history[:, "event_lr"] == [0.1, 0.05, 0.025, 0.0125]


@both
@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_epoch_scoring_scores_the_dense_phase(numbers, make, caching, weighted):
    X, y, s = numbers

    def balance(net, X, y_true):
        assert isinstance(net, type(make()))
        return float(np.mean(y_true))

    auc = EpochScoring("roc_auc", lower_is_better=False, use_caching=caching)
    fair = EpochScoring(balance, name="balance", on_train=True, use_caching=caching)
    net = make(callbacks=[auc, fair], train_split=ValidSplit(2))
    pruner = quick(net)
    pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + y if weighted else None)
    dense = pruner.dense_estimator_
    train, valid = net.train_split(Dataset(X, y), y)
    auc = roc_auc_score(y[valid.indices], _probability(dense, X[valid.indices]))
    assert dense.history[-1, "roc_auc"] == pytest.approx(auc)
    assert dense.history[:, "balance"] == pytest.approx([y[train.indices].mean()] * 4)


def _probability(net, X):
    return net.predict_proba(X)[:, 1]


def test_progress_bar_shows_the_dense_phase(numbers, capsys):
    pytest.importorskip("tqdm", reason="skorch's ProgressBar needs tqdm")
    X, y, s = numbers
    net = binary(callbacks=[ProgressBar()], batch_size=60, train_split=None)
    quick(net).fit(X, y, sensitive_features=s)
    assert capsys.readouterr().err.count(" 0/5 ") == 4  # batches, epochs


def test_history_records_both_phases(numbers):
    X, y, s = numbers
    pruner = quick(binary()).fit(X, y, sensitive_features=s)
    dense, pruning = pruner.dense_estimator_.history, pruner.history_
    assert dense[:, "epoch"] == pruning[:, "epoch"] == [1, 2, 3, 4]
    assert {"train_loss", "valid_loss", "valid_acc", "dur"} <= dense[-1].keys()
    assert {"train_loss", "dur", "sparsity", "running_gap", "train_gap"} <= pruning[-1].keys()
    accuracy = accuracy_score(y, pruner.predict(X))
    assert np.nanmax(pruning[:, "train_accuracy"]) == pytest.approx(accuracy, abs=0.02)


class Steps(Callback):
    def on_train_begin(self, net, X, **kwargs):
        self.table_, self.epochs_, self.batches_, self.gradients_ = X, 0, [], 0

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.gradients_ += all(p.grad is not None for _, p in named_parameters)

    def on_batch_end(self, net, batch, training, y_pred, **kwargs):
        self.batches_.append((batch, y_pred))

    def on_epoch_end(self, net, dataset_train, **kwargs):
        self.epochs_ += 1


@pytest.mark.parametrize("weighted", [False, True])
def test_callbacks_of_the_pruner_see_the_pruning_phase_only(numbers, weighted):
    X, y, s = numbers
    watch = Steps()
    pruner = quick(binary(max_epochs=7), callbacks=[watch], batch_size=150)
    pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + y if weighted else None)
    assert (watch.epochs_, len(watch.batches_), watch.gradients_) == (4, 8, 8)
    for (seen, labels), logits in watch.batches_:
        assert seen.shape == (150, 4) and labels.shape == (150,) and logits.shape == (150, 1)


def test_gradient_clipping_and_scoring_serve_the_pruning_phase(numbers):
    X, y, s = numbers

    def accuracy(net, X, y_true):
        return float(((net.predict(X)[:, 0] > 0) == y_true).mean())

    scores = [
        EpochScoring(accuracy, on_train=True, lower_is_better=False, name="by_epoch"),
        BatchScoring(accuracy, on_train=True, lower_is_better=False, name="by_batch"),
    ]
    net = FrozenEstimator(binary(max_epochs=20, train_split=None).fit(X, y.astype(np.float32)))
    scored = quick(net, callbacks=scores, sparsity=0.0).fit(X, y, sensitive_features=s)
    assert scored.history_[:, "by_epoch"] == pytest.approx(scored.history_[:, "by_batch"])
    assert min(scored.history_[:, "by_epoch"]) > 0.6
    # Far below the epsilon of AdamW gradients move nothing: its decay alone shrinks the weights.
    clipped = quick(net, callbacks=[GradientNormClipping(1e-12)], sparsity=0.0)
    clipped.fit(X, y, sensitive_features=s)
    before = net.estimator.module_.first.bias
    shrunk = {p: (p.network_.first.bias / before).std().item() for p in (scored, clipped)}
    assert shrunk[clipped] < 1e-5 < 1e-3 < shrunk[scored]


def test_checkpoint_and_early_stopping_serve_the_pruning_phase(numbers, tmp_path):
    X, y, s = numbers
    save = Checkpoint("train_loss_best", dirname=tmp_path / "pruning")
    stop = EarlyStopping("train_loss", patience=2, threshold=10.0, threshold_mode="abs")
    pruner = quick(binary(), callbacks=[save, stop], max_epochs=30)
    pruner.fit(X, y, sensitive_features=s)
    assert len(pruner.history_) == 3 and pruner.sparsity_ >= 0.5
    saved = torch.load(tmp_path / "pruning" / "params.pt")
    assert saved.keys() == pruner.network_.state_dict().keys()


def test_progress_bar_shows_the_pruning_phase(numbers, capsys):
    pytest.importorskip("tqdm", reason="skorch's ProgressBar needs tqdm")
    X, y, s = numbers
    quick(Mlp, callbacks=[ProgressBar()], batch_size=60).fit(X, y, sensitive_features=s)
    assert capsys.readouterr().err.count(" 0/5 ") == 4


# --------------------------------------------------------------------------------------- compile


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("weighted", [False, True])
def test_compile_gives_the_same_and_a_plain_network(numbers, weighted):
    X, y, s = numbers
    torch.manual_seed(0)
    module = Mlp()
    fit = {"sensitive_features": s, "sample_weight": 1.0 + 5 * y if weighted else None}
    plain = quick(binary(module)).fit(X, y, **fit)
    net = binary(module, compile=True, compile__backend="eager")
    pruner = quick(net).fit(X, y, **fit)
    assert hasattr(pruner.dense_estimator_.module_, "_orig_mod")  # it was compiled
    assert type(pruner.network_) is Mlp
    assert pruner.network_.state_dict().keys() == module.state_dict().keys()
    expected = plain.decision_function(X)
    np.testing.assert_allclose(pruner.decision_function(X), expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(pruner))
    np.testing.assert_array_equal(again.predict(X), pruner.predict(X))


# --------------------------------------------------------------- losses, and weights of the rows

BCE, CE = nn.functional.binary_cross_entropy_with_logits, nn.functional.cross_entropy
THREE_TO_ONE = torch.tensor([3.0, 1.0])

LOSSES = {
    "BCEWithLogitsLoss": (binary(), lambda z, y: BCE(z[:, 0], y.float())),
    "BCEWithLogitsLoss(pos_weight)": (
        binary(criterion__pos_weight=torch.tensor(5.0)),
        lambda z, y: BCE(z[:, 0], y.float(), pos_weight=torch.tensor(5.0)),
    ),
    "BCELoss": (
        binary(Sigmoid, criterion=nn.BCELoss),
        lambda z, y: nn.functional.binary_cross_entropy(z[:, 0], y.float()),
    ),
    "CrossEntropyLoss": (two_logits(), CE),
    "CrossEntropyLoss(weight)": (
        two_logits(criterion__weight=THREE_TO_ONE),
        lambda z, y: CE(z, y, weight=THREE_TO_ONE),
    ),
    "CrossEntropyLoss(label_smoothing)": (
        two_logits(criterion__label_smoothing=0.2),
        lambda z, y: CE(z, y, label_smoothing=0.2),
    ),
    "CrossEntropyLoss(reduction=sum)": (
        two_logits(criterion__reduction="sum", lr=1e-3),
        lambda z, y: CE(z, y, reduction="sum"),
    ),
    "NLLLoss": (softmax(), lambda p, y: nn.functional.nll_loss(p.log(), y)),
    "NLLLoss(weight)": (
        softmax(criterion__weight=THREE_TO_ONE),
        lambda p, y: nn.functional.nll_loss(p.log(), y, weight=THREE_TO_ONE),
    ),
    "get_loss of its own": (
        softmax(LogSoftmax, cls=LogProbabilityNet),
        nn.functional.nll_loss,
    ),
}


@pytest.mark.parametrize("repeats", [None, "repeated"], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("net", "loss"), LOSSES.values(), ids=LOSSES)
def test_the_pruning_phase_has_the_nets_loss(numbers, net, loss, repeats):
    X, y, s = numbers
    weight = None if repeats is None else np.arange(300) % 3
    pruner = still(net).fit(X, y, sensitive_features=s, sample_weight=weight)
    module = pruner.dense_estimator_.module_
    rows = np.arange(300) if weight is None else np.repeat(np.arange(300), weight)
    with torch.no_grad():
        expected = loss(module(torch.from_numpy(X[rows])), torch.from_numpy(y[rows])).item()
    assert pruner.history_[0, "train_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("phase", ["dense", "pruning"])
@pytest.mark.parametrize(
    "make",
    [
        lambda pos: binary(criterion__pos_weight=torch.tensor(pos), lr=0.5, max_epochs=20),
        lambda pos: two_logits(criterion__weight=torch.tensor([1.0, pos]), lr=0.5, max_epochs=20),
        lambda pos: two_logits(
            criterion=nn.CrossEntropyLoss(weight=torch.tensor([1.0, pos])), lr=0.5, max_epochs=20
        ),
    ],
    ids=["pos_weight", "weight", "weight of an instance"],
)
def test_class_weights_of_the_criterion_act_in_both_phases(numbers, make, phase):
    X, y, s = numbers
    if phase == "dense":
        rates = [
            quick(make(pos)).fit(X, y, sensitive_features=s).predict_dense(X).mean()
            for pos in (0.1, 10.0)
        ]
    else:
        rates = []
        for pos in (0.1, 10.0):
            # The same dense network for both: only its criterion differs.
            net = make(1.0)
            net.fit(X, y.astype(np.float32) if isinstance(net, NeuralNetBinaryClassifier) else y)
            net.criterion_ = make(pos).initialize().criterion_
            pruner = quick(FrozenEstimator(net), max_epochs=150, lr=0.01)
            rates.append(pruner.fit(X, y, sensitive_features=s).predict(X).mean())
    assert rates[1] > rates[0] + 0.3


WEIGHTED = {
    "BCEWithLogitsLoss": binary,
    "BCEWithLogitsLoss(pos_weight)": lambda **k: binary(
        criterion__pos_weight=torch.tensor(3.0), **k
    ),
    "CrossEntropyLoss(weight)": lambda **k: two_logits(criterion__weight=THREE_TO_ONE, **k),
    "NLLLoss": softmax,
}


@pytest.mark.parametrize("make", WEIGHTED.values(), ids=WEIGHTED)
def test_sample_weights_act_as_repeated_rows(numbers, make):
    X, y, s = numbers
    weight = np.arange(300) % 3
    rows = np.repeat(np.arange(300), weight)
    net = make(batch_size=-1, train_split=None, max_epochs=30, lr=0.5)
    pruner = quick(net, max_epochs=12, tolerance=0.4)
    weighted = pruner.fit(X, y, sensitive_features=s, sample_weight=weight)
    scores, dense = weighted.decision_function(X), weighted.dense_estimator_.forward(X)
    repeated = pruner.fit(X[rows], y[rows], sensitive_features=s[rows])
    torch.testing.assert_close(repeated.dense_estimator_.forward(X), dense, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(repeated.decision_function(X), scores, atol=1e-3)
    plain = pruner.fit(X, y, sensitive_features=s)
    assert np.abs(plain.decision_function(X) - scores).max() > 0.01


def test_callbacks_see_plain_labels_beside_weights_and_the_net_keeps_its_class(numbers):
    X, y, s = numbers
    net = binary(callbacks=[("watch", Steps())], batch_size=-1, train_split=None)
    pruner = quick(net).fit(X, y, sensitive_features=s, sample_weight=1.0 + y)
    dense = pruner.dense_estimator_
    watch = dict(dense.callbacks_)["watch"]
    np.testing.assert_array_equal(watch.table_, X)
    for (seen, labels), _ in watch.batches_:
        assert torch.equal(seen, torch.from_numpy(X))
        assert torch.equal(labels, torch.from_numpy(y).float())
    assert type(dense) is NeuralNetBinaryClassifier
    assert same_state(state_of(pickle.loads(pickle.dumps(dense))), state_of(dense))
    assert len(dense.partial_fit(X, y.astype(np.float32)).history) == 8  # without weights again


class OwnLoss(nn.Module):
    def forward(self, logits, y):
        return BCE(logits, y)


class Mean(NeuralNetBinaryClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs).mean()


@pytest.mark.parametrize("weights", [{"sample_weight": np.ones(300)}, {"class_weight": "balanced"}])
def test_weights_need_a_criterion_with_a_reduction(numbers, no_training, weights):
    X, y, s = numbers
    pruner = quick(binary(criterion=OwnLoss), class_weight=weights.pop("class_weight", None))
    with pytest.raises(ValueError, match="OwnLoss has no `reduction`"):
        pruner.fit(X, y, sensitive_features=s, **weights)
    with pytest.raises(pytest.fail.Exception, match="reached the training"):
        pruner.set_params(class_weight=None).fit(X, y, sensitive_features=s)


def test_weights_need_a_loss_for_each_row(numbers):
    X, y, s = numbers
    pruner = quick(binary(cls=Mean)).fit(X, y, sensitive_features=s)
    with pytest.raises(ValueError, match=r"a Mean whose loss has shape \(\) for 128 rows"):
        pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + y)


def test_class_weight_of_the_pruner_acts_as_sample_weights_do(numbers):
    X, y, s = numbers
    pruner = quick(binary(), class_weight={0: 1.0, 1: 3.0}).fit(X, y, sensitive_features=s)
    scores = pruner.decision_function(X)
    pruner.set_params(class_weight=None)
    pruner.fit(X, y, sensitive_features=s, sample_weight=1.0 + 2.0 * y)
    np.testing.assert_array_equal(pruner.decision_function(X), scores)


# --------------------------------------------------------------------------- outputs of modules

OUTPUTS = {
    "one logit (n, 1)": binary(Mlp),
    "one logit (n,)": binary(Flat),
    "sigmoid with BCELoss": binary(Sigmoid, criterion=nn.BCELoss),
    "two logits": two_logits(),
    "softmax with NLLLoss": softmax(),
    "log-softmax with CrossEntropyLoss": softmax(LogSoftmax, **LOGITS),
    "log-softmax with NLLLoss": softmax(
        LogSoftmax, cls=LogProbabilityNet, predict_nonlinearity=torch.exp
    ),
    "three logits": two_logits(n_classes=3),
    "three softmax with NLLLoss": softmax(module__n_outputs=3),
}


@pytest.mark.parametrize(("name", "net"), OUTPUTS.items(), ids=OUTPUTS)
def test_outputs_of_any_kind_are_read_as_skorch_reads_them(numbers, name, net):
    X, y, s = numbers
    y = y + (X[:, 2] > 0.5) if name.startswith("three") else y
    net = clone(net).set_params(max_epochs=40)
    pruner = still(net).fit(X, y, sensitive_features=s)
    dense = pruner.dense_estimator_
    assert len(np.unique(dense.predict(X))) == len(np.unique(y))
    np.testing.assert_array_equal(pruner.predict_dense(X), dense.predict(X))
    np.testing.assert_array_equal(pruner.predict(X), dense.predict(X))
    np.testing.assert_allclose(pruner.predict_proba(X), dense.predict_proba(X), atol=1e-5)
    accuracy = (dense.predict(X) == y).mean()
    assert pruner.history_[-1, "train_accuracy"] == pytest.approx(accuracy)
    pruned = quick(net, max_epochs=100, lr=0.01).fit(X, y, sensitive_features=s)
    assert pruned.sparsity_ >= 0.5
    assert pruned.score(X, y) > (0.45 if name.startswith("three") else 0.7)


@pytest.mark.parametrize(
    ("net", "n_classes", "message"),
    [
        (binary(module__n_outputs=2), 2, r"shape \(2, 2\), but expected one logit for each row"),
        (two_logits(Mlp()), 2, r"shape \(2, 1\), but expected 2 logits"),
        (softmax(module__n_outputs=3), 2, r"shape \(2, 3\), but expected 2 logits"),
        (two_logits(), 3, r"shape \(2, 2\), but expected 3 logits"),
        (binary(), 3, "NeuralNetBinaryClassifier, but y has 3 classes"),
        (binary(module__n_features=7), 2, r"X of shape \(300, 4\), but the forward of Mlp fails"),
        (binary(threshold=0.3), 2, "threshold=0.3, but expected 0.5"),
        (NeuralNetRegressor(Mlp), 2, "Got a skorch NeuralNetRegressor, but expected a NeuralNetC"),
    ],
    ids=[
        "two outputs for one logit",
        "one output for two classes",
        "three outputs for two classes",
        "two outputs for three classes",
        "binary net for three classes",
        "other features",
        "threshold",
        "regressor",
    ],
)
def test_nets_that_do_not_fit_the_data_are_refused(numbers, no_training, net, n_classes, message):
    X, y, s = numbers
    y = y + (X[:, 2] > 0) if n_classes == 3 else y
    with pytest.raises(ValueError, match=message):
        quick(net).fit(X, y, sensitive_features=s)


@pytest.mark.parametrize("weighted", [False, True])
def test_of_several_outputs_the_first_predicts_and_the_loss_reads_all(numbers, weighted):
    X, y, s = numbers
    net = binary(WithHidden, cls=Regularised)
    pruner = still(net)
    pruner.fit(X, y, sensitive_features=s, sample_weight=np.full(300, 2.0) if weighted else None)
    with torch.no_grad():
        logits, hidden = pruner.dense_estimator_.module_(torch.from_numpy(X))
        expected = BCE(logits[:, 0], torch.from_numpy(y).float()) + 0.1 * hidden.square().mean()
    np.testing.assert_allclose(pruner.decision_function(X), logits[:, 0], atol=1e-5)
    assert pruner.history_[0, "train_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert pruner.transform(X).shape == (300, 8)


def test_what_a_loss_records_in_the_pruning_phase_leaves_a_frozen_net_alone(numbers):
    X, y, s = numbers
    net = binary(WithHidden, cls=Regularised, train_split=None).fit(X, y.astype(np.float32))
    before = copy.deepcopy(net.history)
    quick(FrozenEstimator(net)).fit(X, y, sensitive_features=s)
    assert net.history == before and "penalty" in before[-1, "batches", -1]


def test_modules_of_several_outputs_need_no_skorch(numbers):
    X, y, s = numbers
    pruner = quick(WithHidden, max_epochs=60).fit(X, y, sensitive_features=s)
    assert pruner.score(X, y) > 0.7


# ------------------------------------------------------------------------------ kinds of modules


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1)
        )

    def forward(self, X):
        return self.layers(X)


def test_dropout_and_batch_normalisation_predict_in_evaluation_mode(numbers):
    X, y, s = numbers
    pruner = quick(binary(Normalised), batch_size=100, max_epochs=30)
    pruner.fit(X, y, sensitive_features=s)
    dense, pruned = (m.layers[1] for m in (pruner.dense_estimator_.module_, pruner.network_))
    assert torch.isfinite(pruned.running_mean).all() and (pruned.running_var > 0).all()
    assert not torch.equal(pruned.running_mean, dense.running_mean)
    assert 3 * 22 < pruned.num_batches_tracked - dense.num_batches_tracked <= 3 * 30
    scores = pruner.decision_function(X)
    np.testing.assert_array_equal(pruner.decision_function(X), scores)
    again = pickle.loads(pickle.dumps(pruner))
    np.testing.assert_array_equal(again.decision_function(X), scores)
    np.testing.assert_allclose(pruner.decision_function(X[:1]), scores[:1], atol=1e-6)
    pruner.network_.eval()
    with torch.no_grad():
        logits = pruner.network_(torch.from_numpy(X))[:, 0]
    np.testing.assert_allclose(logits, scores, atol=1e-6)


class Mixed(nn.Module):
    """Numbers, and codes of a job for an embedding."""

    def __init__(self, n_jobs=5):
        super().__init__()
        self.embedding = nn.Embedding(n_jobs, 3)
        self.output = nn.Linear(4 + 3, 1)

    def forward(self, job, amount):
        return self.output(torch.cat([self.embedding(job), amount], dim=1))


@pytest.fixture(scope="module")
def inputs(numbers):
    """Draw a dict of inputs: a job decides half of the label."""
    X, y, s = numbers
    job = np.random.default_rng(1).integers(0, 5, 300)
    return {"job": job, "amount": X.astype(float)}, (X[:, 1] + (job > 2) > 0.5).astype(int), s


@pytest.mark.parametrize("net", [Mixed, binary(Mixed, max_epochs=30)], ids=["module", "skorch"])
def test_a_dict_of_inputs_reaches_forward_by_name(inputs, net):
    X, y, s = inputs
    pruner = quick(net, max_epochs=60).fit(X, y, sensitive_features=s)
    assert pruner.score(X, y) > 0.65
    assert (pruner.predict(X | {"job": 4 - X["job"]}) != pruner.predict(X)).any()
    assert set(pruner.masks_) == {"embedding.weight", "output.weight"}
    other = {"amount": X["amount"].tolist(), "job": X["job"].astype(float)}  # order, types
    np.testing.assert_array_equal(pruner.decision_function(other), pruner.decision_function(X))
    whole = {"job": X["job"][:3], "amount": np.ones((3, 4), dtype=int)}
    ones = {"job": X["job"][:3], "amount": np.ones((3, 4))}
    np.testing.assert_array_equal(pruner.predict_proba(whole), pruner.predict_proba(ones))
    assert pruner.was_fitted_on(X) and pruner.was_fitted_on(other)
    assert not pruner.was_fitted_on({name: values[::-1] for name, values in X.items()})
    again = pickle.loads(pickle.dumps(pruner))
    np.testing.assert_array_equal(again.predict(other), pruner.predict(X))


def test_a_dict_of_other_inputs_is_refused(inputs, no_training):
    X, y, s = inputs
    with pytest.raises(ValueError, match=r"lengths \{'job': 299, 'amount': 300\}"):
        quick(Mixed).fit(X | {"job": X["job"][:-1]}, y, sensitive_features=s)
    with pytest.raises(ValueError, match=r"inputs \['job'\], but the forward of Mixed fails.*amou"):
        quick(Mixed).fit({"job": X["job"]}, y, sensitive_features=s)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick(Mixed).fit(X, y[:-1], sensitive_features=s)
    with pytest.raises(ValueError, match="default network takes one table"):
        quick(None).fit(X, y, sensitive_features=s)


def test_predicting_needs_the_inputs_of_fit(inputs):
    X, y, s = inputs
    pruner = quick(Mixed).fit(X, y, sensitive_features=s)
    for other in ({"job": X["job"]}, X | {"age": X["job"]}):
        with pytest.raises(ValueError, match=r"expected those of fit: \['job', 'amount'\]"):
            pruner.predict(other)
    with pytest.raises(ValueError, match=r"fractions in \['job'\]"):
        pruner.predict(X | {"job": X["job"] + 0.5})


def test_a_slice_dict_makes_a_dict_of_inputs_searchable(inputs):
    X, y, s = inputs
    X = SliceDict(job=X["job"], amount=X["amount"])
    grid = {"estimator__lr": [1e-6, 0.3]}
    search = GridSearchCV(quick(binary(Mixed, max_epochs=20), max_epochs=20), grid, cv=2)
    search.fit(X, y, sensitive_features=s)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(dict(X)))


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(2, 4, kernel_size=3)
        self.output = nn.Linear(4, 2)

    def forward(self, X):
        return self.output(torch.relu(self.filters(X)).amax(dim=(2, 3)))


def test_convolutions_take_four_axes(numbers):
    _, y, s = numbers
    X = np.random.default_rng(0).normal(size=(300, 2, 5, 5))
    X[y == 1, 0, 2, 2] += 4.0
    net = two_logits(Convolution(), max_epochs=20)
    pruner = quick(net, max_epochs=60).fit(X, y, sensitive_features=s)
    assert set(pruner.masks_) == {"filters.weight", "output.weight"}
    assert pruner.masks_["filters.weight"].shape == (4, 2, 3, 3)
    assert pruner.score(X, y) > 0.8
    assert pruner.transform(X).shape == (300, 4)


def test_a_dataframe_is_not_taken_apart_into_keyword_arguments(numbers):
    X, y, s = numbers
    frame = pd.DataFrame(X, columns=["X", "age", "income", "score"])
    expected = quick(binary()).fit(X, y, sensitive_features=s)
    pruner = quick(binary()).fit(frame, y, sensitive_features=s)
    np.testing.assert_array_equal(pruner.predict_proba(frame), expected.predict_proba(X))
    assert list(pruner.feature_names_in_) == list(frame.columns)


# ---------------------------------------------------------------------------- kinds of parameters


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.up.weight
        self.output = nn.Linear(4, 1)

    def forward(self, X):
        return self.output(torch.relu(self.again(torch.relu(self.up(X)))))


def test_shared_parameters_stay_shared_and_count_once(numbers):
    X, y, s = numbers
    pruner = quick(binary(Tied)).fit(X, y, sensitive_features=s)
    assert set(pruner.masks_) == {"up.weight", "output.weight"}
    assert pruner.sparsity_ == 0.5  # of 16 + 4 weights
    for network in (pruner.network_, pickle.loads(pickle.dumps(pruner)).network_):
        assert network.again.weight is network.up.weight
        assert torch.equal(network.up.weight != 0, pruner.masks_["up.weight"])
    dense = pruner.dense_estimator_.module_
    assert dense.again.weight is dense.up.weight
    assert not torch.equal(dense.up.weight, pruner.network_.up.weight)


class Bare(nn.Module):
    """Parameters without a layer around them."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 6) / 2)
        self.shift = nn.Parameter(torch.zeros(6))
        self.output = nn.Linear(6, 1)

    def forward(self, X):
        return self.output(torch.tanh(X @ self.matrix + self.shift))


def test_parameters_without_a_layer_are_pruned(numbers):
    X, y, s = numbers
    pruner = quick(binary(Bare)).fit(X, y, sensitive_features=s)
    assert set(pruner.masks_) == {"matrix", "output.weight"}
    assert not pruner.masks_["matrix"].all()
    assert torch.equal(pruner._fitted.masked_network().matrix != 0, pruner.masks_["matrix"])
    # What no output reads any more is cut out of it, as out of a layer.
    assert pruner.network_.matrix.shape[1] == pruner.network_.output.in_features


def test_frozen_parameters_are_masked_and_not_trained(numbers):
    X, y, s = numbers
    module = Mlp()
    module.first.weight.requires_grad_(False)
    pruner = quick(binary(module)).fit(X, y, sensitive_features=s)
    mask = pruner.masks_["first.weight"]
    assert not mask.all()
    masked = module.first.weight * mask
    for unit in pruner.network_.first.weight:  # those that are left
        assert (masked == unit).all(dim=1).any()
    dense = pruner.dense_estimator_.module_
    assert torch.equal(dense.first.weight, module.first.weight)
    assert not torch.equal(dense.first.bias, module.first.bias)


class Unused(Mlp):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(4, 4)


def test_parameters_that_forward_does_not_use_do_no_harm(numbers):
    X, y, s = numbers
    pruner = quick(binary(Unused, max_epochs=20), max_epochs=60).fit(X, y, sensitive_features=s)
    assert "spare.weight" in pruner.masks_
    assert all(torch.isfinite(p).all() for p in pruner.network_.parameters())
    assert pruner.score(X, y) > 0.7


# ------------------------------------------------------- what skorch offers from X to the loss


def with_own(method, cls=NeuralNetBinaryClassifier):
    """Class of nets that have a method of their own, which does as skorch's."""

    def own(self, *args, **kwargs):
        return getattr(cls, method)(self, *args, **kwargs)

    own.__name__ = method
    return type("Mine", (cls,), {method: own})


AROUND_THE_MODULE = [
    *("infer", "train_step", "train_step_single", "evaluation_step"),
    *("forward_iter", "predict_proba", "predict"),
]


@pytest.mark.parametrize("method", AROUND_THE_MODULE)
def test_what_a_net_does_around_its_module_is_refused_by_name(numbers, no_training, method):
    X, y, s = numbers
    net = binary(cls=with_own(method), max_epochs=1)
    for estimator in (net, FrozenEstimator(clone(net).fit(X, y.astype(np.float32)))):
        with pytest.raises(ValueError, match=rf"a skorch Mine with {method} of its own"):
            quick(estimator).fit(X, y, sensitive_features=s)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_loop", "run_single_epoch"])
def test_training_of_its_own_is_refused_by_name_unless_the_net_is_frozen(
    numbers, monkeypatch, method
):
    X, y, s = numbers
    net = binary(cls=with_own(method), max_epochs=1)
    fitted = FrozenEstimator(clone(net).fit(X, y.astype(np.float32)))
    assert quick(fitted).fit(X, y, sensitive_features=s).sparsity_ == 0.5
    monkeypatch.setattr("fairprune_sk.fitting.dense.train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ValueError, match=rf"with {method} of its own.* FrozenEstimator"):
        quick(net).fit(X, y, sensitive_features=s)


@pytest.mark.parametrize(
    "method",
    [
        *("validation_step", "check_data", "get_loss", "initialize_module", "on_train_begin"),
        *("initialize_criterion", "initialize_optimizer", "get_train_step_accumulator", "forward"),
        *("get_dataset", "get_split_datasets", "get_iterator"),
    ],
)
def test_other_methods_of_a_net_are_its_own_business(numbers, method):
    X, y, s = numbers
    one, other = (
        quick(binary(cls=c, max_epochs=1), max_epochs=1)
        for c in (NeuralNetBinaryClassifier, with_own(method))
    )
    expected = one.fit(X, y, sensitive_features=s).decision_function(X)
    pruner = other.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(pruner.decision_function(X), expected)


class Sees(NeuralNetBinaryClassifier):
    """A loss that weighs rows by X, and shrinks the weights of the module."""

    l1 = 0.0

    def get_loss(self, y_pred, y_true, X, training=False):
        rows = BCE(y_pred, y_true, reduction="none") * X[:, 0].exp()
        sizes = sum(weight.abs().sum() for weight in self.module_.parameters())
        return rows.mean() + self.l1 * sizes


class Shrinks(Sees):
    l1 = 1.0


def test_a_loss_may_read_x_and_the_module_in_both_phases(numbers):
    X, y, s = numbers
    pruner = still(binary(cls=Shrinks, train_split=None)).fit(X, y, sensitive_features=s)
    module = pruner.dense_estimator_.module_
    with torch.no_grad():
        logits, weight = module(torch.from_numpy(X))[:, 0], torch.from_numpy(X[:, 0]).exp()
        expected = BCE(logits, torch.from_numpy(y).float(), weight=weight).item()
        expected += sum(w.abs().sum().item() for w in module.parameters())
    assert pruner.history_[0, "train_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_sees_the_weights_of_the_step(numbers):
    X, y, s = numbers
    nets = [binary(cls=cls).fit(X, y.astype(np.float32)) for cls in (Sees, Sees)]
    nets[1].__class__ = Shrinks
    sizes = []
    for net in nets:
        pruner = quick(FrozenEstimator(net), sparsity=0.0, max_epochs=30, lr=0.02)
        network = pruner.fit(X, y, sensitive_features=s).network_
        sizes.append(sum(weight.abs().sum().item() for weight in network.parameters()))
    assert sizes[1] < sizes[0] / 2


def cross_entropy():
    return BCE


def test_a_criterion_may_be_a_function(numbers, monkeypatch):
    X, y, s = numbers
    expected = quick(binary()).fit(X, y, sensitive_features=s).decision_function(X)
    net = binary(criterion=cross_entropy, callbacks__valid_acc=None)
    pruner = quick(net).fit(X, y, sensitive_features=s)
    np.testing.assert_allclose(pruner.decision_function(X), expected, atol=1e-5)
    monkeypatch.setattr("fairprune_sk.fitting.dense.train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ValueError, match="skorch cannot initialize: .*missing 2 required"):
        quick(binary(criterion=BCE)).fit(X, y, sensitive_features=s)


class Criteria(NeuralNetClassifier):
    """A net of two criteria, neither under skorch's name, for a module of probabilities."""

    def initialize_criterion(self):
        self.first_, self.second_ = nn.CrossEntropyLoss(), nn.NLLLoss()
        return self

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return self.first_(y_pred, y_true) + self.second_(y_pred.log(), y_true)


class LogLoss(nn.Module):
    """A criterion on probabilities that skorch does not know."""

    def forward(self, probabilities, y):
        return nn.functional.nll_loss(probabilities.log(), y)


def halved(logits):
    return (logits / 2).softmax(-1)


def shifted(logits):
    return logits + torch.tensor([9.0, 0.0])


@pytest.mark.parametrize(
    "net",
    [
        softmax(cls=Criteria),
        softmax(criterion=LogLoss),
        softmax(criterion=LogLoss, predict_nonlinearity=lambda p: p),
        softmax(predict_nonlinearity=None, **LOGITS),  # no softmax of a softmax
        two_logits(predict_nonlinearity=lambda z: z.softmax(-1)),
        binary(predict_nonlinearity=lambda z: torch.stack([-z, z], dim=-1).sigmoid()),
    ],
    ids=["criteria", "a loss of probabilities", "identity", "None", "softmax", "sigmoid"],
)
def test_probabilities_are_what_the_nonlinearity_says(numbers, net):
    X, y, s = numbers
    pruner = still(net).fit(X, y, sensitive_features=s)
    expected = pruner.dense_estimator_.predict_proba(X)
    np.testing.assert_allclose(pruner.predict_proba(X), expected, atol=1e-5)


@pytest.mark.parametrize("nonlinearity", [halved, shifted])
def test_a_nonlinearity_of_other_probabilities_is_refused(numbers, no_training, nonlinearity):
    X, y, s = numbers
    net = two_logits(predict_nonlinearity=nonlinearity)
    with pytest.raises(ValueError, match=f"predict_nonlinearity={nonlinearity.__name__}, which"):
        quick(net).fit(X, y, sensitive_features=s)


class Thousandth(Dataset):
    def transform(self, X, y):
        return super().transform(X / np.float32(1000.0), y)


class Untouched(Dataset):
    def transform(self, X, y):
        return super().transform(X.copy(), y)


class Noisy(torch.utils.data.DataLoader):
    def __iter__(self):
        return ((X + torch.randn_like(X), y) for X, y in super().__iter__())


def flipped(rows):
    X, y = torch.utils.data.default_collate(rows)
    return X, 0.9 * y


class OwnDataset(NeuralNetBinaryClassifier):
    def get_dataset(self, X, y=None):
        return super().get_dataset(2 * X, y)


def halves(dataset, y):
    return Thousandth(dataset.X, dataset.y), dataset


CHANGED = {
    "dataset": binary(dataset=Thousandth),
    "iterator_train": binary(iterator_train=Noisy),
    "iterator_valid": binary(iterator_valid=Noisy),
    "iterator_train__collate_fn": binary(iterator_train__collate_fn=flipped),
    "get_dataset": binary(cls=OwnDataset),
    "train_split": binary(train_split=halves),
}


@pytest.mark.parametrize(("name", "net"), CHANGED.items(), ids=CHANGED)
def test_what_changes_rows_on_their_way_is_refused_by_name(numbers, no_training, name, net):
    X, y, s = numbers
    with pytest.raises(ValueError, match=rf"whose .*{name}.* changes the rows"):
        quick(net).fit(X, y, sensitive_features=s)


def test_how_a_frozen_net_read_rows_for_training_does_not_matter(numbers):
    X, y, s = numbers
    for name, net in CHANGED.items():
        frozen = FrozenEstimator(clone(net).set_params(max_epochs=1).fit(X, y.astype(np.float32)))
        if "train" in name:
            quick(frozen, max_epochs=1).fit(X, y, sensitive_features=s)
        else:
            with pytest.raises(ValueError, match=f"{name}.* changes the rows"):
                quick(frozen).fit(X, y, sensitive_features=s)


def unweighted(rows):
    return tuple(torch.tensor(np.array(column)) for column in zip(*rows, strict=True))


def test_weights_need_a_collate_fn_that_hands_them_on(numbers, no_training):
    X, y, s = numbers
    net = two_logits(iterator_train__collate_fn=unweighted)
    with pytest.raises(pytest.fail.Exception, match="reached the training"):
        quick(net).fit(X, y, sensitive_features=s)
    with pytest.raises(ValueError, match="iterator_train__collate_fn changes the rows of X or y"):
        quick(net).fit(X, y, sensitive_features=s, sample_weight=1.0 + y)


@pytest.mark.parametrize("how", ["dataset", "sampler", "dict"])
def test_what_leaves_rows_as_they_are_trains(numbers, inputs, how):
    X, y, s = inputs if how == "dict" else numbers
    options = {"dataset": Untouched}
    if how == "sampler":
        sampler = torch.utils.data.WeightedRandomSampler(np.ones(240), 240)
        options = {"iterator_train__sampler": sampler}
    if how == "dict":
        options = {"module": Mixed}
    pruner = quick(binary(**options)).fit(X, y, sensitive_features=s)
    assert pruner.sparsity_ >= 0.5


def test_one_criterion_weighs_rows(numbers, no_training):
    X, y, s = numbers
    with pytest.raises(ValueError, match=r"criteria \['first', 'second'\], but only one"):
        quick(softmax(cls=Criteria)).fit(X, y, sensitive_features=s, sample_weight=1.0 + y)


@pytest.mark.parametrize("option", [{"warm_start": True}, {"classes": [5, 7]}, {"verbose": 1}])
def test_what_has_no_effect_on_results(numbers, option):
    X, y, s = numbers
    one, other = (quick(two_logits(max_epochs=1, **o), max_epochs=1) for o in ({}, option))
    expected = one.fit(X, y, sensitive_features=s).decision_function(X)
    pruner = other.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(pruner.decision_function(X), expected)


def test_a_net_trimmed_for_prediction_is_refused(numbers, no_training):
    X, y, s = numbers
    net = binary(max_epochs=1).fit(X, y.astype(np.float32))
    net.trim_for_prediction()
    with pytest.raises(ValueError, match="cannot initialize: .* trimmed for prediction"):
        quick(net).fit(X, y, sensitive_features=s)
    with pytest.raises(ValueError, match="never trained, or trimmed for prediction"):
        quick(FrozenEstimator(net)).fit(X, y, sensitive_features=s)


class Two(NeuralNetBinaryClassifier):
    def initialize_module(self):
        super().initialize_module()
        self.other_ = Mlp()
        return self


def test_one_network_is_pruned_not_several(numbers, no_training):
    X, y, s = numbers
    with pytest.raises(ValueError, match=r"modules \['other'\] beside its module"):
        quick(binary(cls=Two)).fit(X, y, sensitive_features=s)


class Standardised(Mlp):
    """What a net's infer might do, where it belongs."""

    def forward(self, X):
        return super().forward((X - 500.0) / 100.0)


def test_a_network_that_standardises_its_inputs_is_the_same_in_every_form(numbers, tmp_path):
    X, y, s = numbers
    X = 500 + 100 * X
    pruner = still(binary(Standardised, max_epochs=30)).fit(X, y, sensitive_features=s)
    expected = pruner.dense_estimator_.predict(X)
    assert (expected == y).mean() > 0.7
    np.testing.assert_array_equal(pruner.predict(X), expected)
    pruner.save(tmp_path / "pruner.safetensors")
    again = load(tmp_path / "pruner.safetensors", modules=binary(Standardised))
    np.testing.assert_array_equal(again.predict(X), expected)
    np.testing.assert_array_equal(again.predict_dense(X), expected)


# ---------------------------------------------------------------------------- parameters, search


def test_parameters_of_the_net_are_set_through_the_pruner(numbers):
    X, y, s = numbers
    pruner = quick(binary())
    pruner.set_params(
        estimator__lr=0.03,
        estimator__max_epochs=2,
        estimator__module__n_hidden=5,
        estimator__optimizer__momentum=0.5,
    )
    assert pruner.get_params()["estimator__module__n_hidden"] == 5
    twin = clone(pruner).fit(X, y, sensitive_features=s)
    assert twin.dense_estimator_.module_.first.out_features == 5
    assert len(twin.dense_estimator_.history) == 2
    group = twin.dense_estimator_.optimizer_.param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.03, 0.5)


def test_grid_search_over_parameters_of_the_module(numbers):
    X, y, s = numbers
    grid = {"estimator__module__n_hidden": [2, 8], "estimator__lr": [1e-6, 0.1]}
    search = GridSearchCV(quick(binary(max_epochs=20), max_epochs=40), grid, cv=2)
    search.fit(X, y, sensitive_features=s)
    assert search.best_params_["estimator__lr"] == 0.1
    dense = search.best_estimator_.dense_estimator_.module_
    assert dense.first.out_features == search.best_params_["estimator__module__n_hidden"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_metadata_routing_leaves_the_net_alone(numbers):
    X, y, s = numbers
    fit = {"sensitive_features": s, "sample_weight": 1.0 + y}
    expected = quick(binary()).fit(X, y, **fit).decision_function(X)
    with config_context(enable_metadata_routing=True):
        pruner = quick(binary()).fit(X, y, **fit)
    np.testing.assert_array_equal(pruner.decision_function(X), expected)
