"""
A trained network, frozen
=========================

A network that is trained already is pruned from the weights that it has. Which rows it was trained
on is not known to the fit, so its tolerance is for the training rows, and that is asked for here:
people it has not seen may fare worse, and the report says so.
"""

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(6000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=2000, random_state=0)

numbers = make_pipeline(SimpleImputer(), StandardScaler())
columns = X.select_dtypes("number").columns
X = numbers.fit_transform(X[columns]).astype("float32")
X_test = numbers.transform(X_test[columns]).astype("float32")

torch.manual_seed(0)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(X.shape[1], 32), nn.ReLU(), nn.Linear(32, 2)),
    criterion=nn.CrossEntropyLoss,
    max_epochs=20,
    lr=0.1,
    verbose=0,
)
net.fit(X, y.to_numpy())

pruner = FairPruner(
    FrozenEstimator(net), sparsity=0.5, tolerance_on="training", tolerance=0.05, random_state=0
)
pruner.fit(X, y, sensitive_features=s["sex"])
print(
    f"accuracy of yours {net.score(X_test, y_test):.3f}, pruned {pruner.score(X_test, y_test):.3f}"
)
report = fairness_report(pruner, X_test, y_test, sensitive_features=s_test["sex"])
print(report)

# %%
# Dense against pruned, by group.

from fairprune_sk.displays import RatesByGroupDisplay

RatesByGroupDisplay.from_report(report)
