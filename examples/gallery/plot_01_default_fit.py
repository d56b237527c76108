"""
A fit, and its report
=====================

The answer comes first: within the tolerance for people not seen, above it, or cannot tell.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(2000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

pruner = FairPruner(max_epochs=15, tolerance_on="training", random_state=0)
pruner.fit(X, y, sensitive_features=s["sex"])
report = fairness_report(pruner, X_test, y_test, sensitive_features=s_test["sex"])
print(report)

# %%
# Dense against pruned, with intervals. Where intervals of two groups overlap widely, 800 rows do
# not tell.

from fairprune_sk.displays import RatesByGroupDisplay

RatesByGroupDisplay.from_report(report)
