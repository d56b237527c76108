"""A network against an adversary."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from fairlearn.adversarial import AdversarialFairnessClassifier
from fairlearn.adversarial._pytorch_engine import PytorchEngine
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairprune_sk.benchmarks.competitors.base import Competitor
from fairprune_sk.benchmarks.competitors.families import MatrixEncoder
from fairprune_sk.benchmarks.competitors.inputs import SEEDS
from fairprune_sk.fitting.training import seeded

# The adversary must keep up with the predictor.
_ADVERSARY_LR = 10.0
_DROPOUT = 0.2


def _adam(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    # Without momentum, as is usual between adversaries: with it, they circle ever more widely.
    return torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.0, 0.99)
    )


class _AdversarialEngine(PytorchEngine):
    """fairlearn's engine, with the seed and the gradient that were meant.

    fairlearn seeds torch with a fraction below 1, which torch rounds to 0 for every
    ``random_state``. And it projects on the adversary's gradient with ``torch.inner``, which for
    matrices is no inner product but that of each row with each row; the method as published [1]_
    takes the inner product of all entries, as here. Both learning rates fall to 0
    along a cosine: at a constant rate predictor and adversary circle around each other, and the
    gap is that of the step at which training happens to end.

    References
    ----------
    .. [1] Zhang, Lemoine, Mitchell, "Mitigating Unwanted Biases with Adversarial Learning",
       AIES 2018.
    """

    def __init__(self, base: Any, X: Any, Y: Any, A: Any):
        super().__init__(base, X, Y, A)
        steps = base.epochs * -(-len(X) // base.batch_size)
        optimizers = self.predictor_optimizer, self.adversary_optimizer
        self.schedules = [CosineAnnealingLR(optimizer, T_max=steps) for optimizer in optimizers]

    def get_model(self, list_nodes: list) -> nn.Module:
        """Initialise a model from the estimator's own random state."""
        torch.manual_seed(self.base.random_state_.randint(SEEDS))
        return super().get_model(list_nodes)

    def train_step(self, X: torch.Tensor, Y: torch.Tensor, A: torch.Tensor) -> tuple[float, float]:
        """One step of predictor and adversary; each layer is projected, as in fairlearn."""
        self.predictor_model.train()
        self.adversary_model.train()
        y_hat = self.predictor_model(X)
        loss = self.predictor_loss(y_hat, Y)
        seen = torch.cat((y_hat, Y), dim=1) if self.base.pass_y_ else y_hat
        adversary_loss = self.adversary_loss(self.adversary_model(seen), A)
        weights = list(self.predictor_model.parameters())
        adversary = list(self.adversary_model.parameters())
        ours = torch.autograd.grad(loss, weights, retain_graph=True)
        theirs = torch.autograd.grad(adversary_loss, weights + adversary)
        tiny = torch.finfo(torch.float32).tiny
        for weight, own, other in zip(weights, ours, theirs[: len(weights)], strict=True):
            unit = other / (other.norm() + tiny)
            weight.grad = own - (own * unit).sum() * unit - self.base.alpha * other
        for weight, own in zip(adversary, theirs[len(weights) :], strict=True):
            weight.grad = own
        self.predictor_optimizer.step()
        self.adversary_optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return loss.item(), adversary_loss.item()


class Adversarial(Competitor):
    """A network trained against an adversary that reads the group off its predictions.

    fairlearn's ``AdversarialFairnessClassifier`` [1]_ over one-hot, imputed and scaled columns,
    with the layers, the dropout and the weight decay of ``FairPruner``'s network. There is no
    bound on the gap: ``alpha`` trades it for accuracy. Its defaults, and the adversary's, were
    chosen on splits of the training parts of COMPAS and Adult. The seed and the gradient of
    fairlearn's engine are put right on the way.

    Parameters
    ----------
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
        Whether the adversary sees the labels as well.
    alpha : float >= 0, default=1.0
        Weight of the adversary.
    hidden : tuple of int, default=(256, 128)
        Units of each hidden layer.
    max_epochs : int >= 1 or None, default=None
        None is 20, or as many more as 700 steps take: small tables need steps, and large ones
        are overfitted by more epochs.
    batch_size : int >= 1, default=256
    lr : float > 0, default=0.001
        Learning rate of the predictor at the start; that of the adversary is ten times as large.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    adversarial_ : AdversarialFairnessClassifier
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    References
    ----------
    .. [1] Zhang, Lemoine, Mitchell, "Mitigating Unwanted Biases with Adversarial Learning",
       AIES 2018.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Adversarial
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Adversarial(max_epochs=2, random_state=0).fit(X, y, sensitive_features=s["sex"])
    >>> fair.predict(X).shape
    (1000,)
    """

    def __init__(
        self,
        *,
        constraint: str = "equalized_odds",
        alpha: float = 1.0,
        hidden: tuple[int, ...] = (256, 128),
        max_epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 1e-3,
        random_state: Any = None,
    ):
        self.constraint = constraint
        self.alpha = alpha
        self.hidden = hidden
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Adversarial:
        """Train predictor and adversary.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Adversarial
        """
        X, y, groups = self._start(X, y, sensitive_features)
        epochs = self.max_epochs
        if epochs is None:
            epochs = max(20, -(-700 // -(-len(X) // self.batch_size)))
        self.encoder_ = MatrixEncoder().fit(X)
        layers = [layer for units in self.hidden for layer in (units, "relu", nn.Dropout(_DROPOUT))]
        self.adversarial_ = AdversarialFairnessClassifier(
            backend=_AdversarialEngine,
            predictor_model=layers,
            adversary_model=[32, "relu"],
            predictor_optimizer=partial(_adam, lr=self.lr, weight_decay=0.5),
            adversary_optimizer=partial(_adam, lr=_ADVERSARY_LR * self.lr, weight_decay=0.0),
            constraints=self.constraint,
            learning_rate=self.lr,
            alpha=self.alpha,
            epochs=epochs,
            batch_size=self.batch_size,
            shuffle=True,
            random_state=self._seed,
        )
        codes = np.searchsorted(self.groups_, groups)
        with seeded(self._seed, torch.device("cpu")):
            self.adversarial_.fit(self.encoder_.transform(X), y, sensitive_features=codes)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        return self.classes_[self.adversarial_.predict(self._encoded(X)).astype(int)]
