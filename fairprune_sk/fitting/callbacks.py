"""scikit-learn's callbacks inside skorch's loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from skorch.callbacks import Callback


class EpochTasks(Callback):
    """Report a training to scikit-learn's callbacks: one task for it, with a subtask an epoch.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Of the estimator's fit.
    estimator : BaseEstimator
    task_name : str
    data : dict
        "X", "y" and "metadata" of the fit.
    fitted : callable, optional
        ``fitted(net)`` gives the attributes with which the estimator could predict as if the
        training had stopped here.
    """

    def __init__(
        self,
        context: Any,
        estimator: Any,
        task_name: str,
        data: dict[str, Any],
        fitted: Callable[[Any], dict[str, Any]] | None = None,
    ):
        self.context = context
        self.estimator = estimator
        self.task_name = task_name
        self.data = data
        self.fitted = fitted

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the task."""
        self.task_ = self.context.subcontext(self.task_name, max_subtasks=net.max_epochs)
        self.task_.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Open a subtask."""
        self.epoch_ = self.task_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Close the subtask; stop the training where a callback asks for it."""
        if self._end(self.epoch_, net):
            raise KeyboardInterrupt  # skorch's own way to stop early

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the task."""
        self._end(self.task_, net)

    def _end(self, task: Any, net: Any) -> bool:
        fitted = None if self.fitted is None else partial(self.fitted, net)
        return task.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=fitted, **self.data
        )
