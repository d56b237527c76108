"""
Your own skorch network
=======================

A skorch classifier is cloned, trained with its own settings and pruned.
"""

import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(1500, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

torch.manual_seed(0)
numbers = X.select_dtypes("number").columns
mean, scale = X[numbers].mean(), X[numbers].std()
X = ((X[numbers] - mean) / scale).fillna(0).to_numpy("float32")
X_test = ((X_test[numbers] - mean) / scale).fillna(0).to_numpy("float32")
module = nn.Sequential(nn.Linear(X.shape[1], 32), nn.ReLU(), nn.Linear(32, 2))
net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, max_epochs=10, lr=0.1, verbose=0)

pruner = FairPruner(net, sparsity=0.5, max_epochs=15, tolerance_on="training", random_state=0)
pruner.fit(X, y, sensitive_features=s["sex"])
print(pruner.network_)
print(fairness_report(pruner, X_test, y_test, sensitive_features=s_test["sex"]))
