"""
A fit, and its report
=====================

A fit needs the table, the labels and the sensitive feature. The report is of rows that the fit has
not seen, and its first sentence is the answer: within the tolerance for people not seen, above
it, or cannot tell.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(6000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=2400, random_state=0)

pruner = FairPruner(tolerance=0.1, random_state=0)
pruner.fit(X, y, sensitive_features=s["sex"])
report = fairness_report(pruner, X_test, y_test, sensitive_features=s_test["sex"])
print(report)

# %%
# Dense against pruned, with intervals: what pruning under the constraint did to each group.

from fairprune_sk.displays import RatesByGroupDisplay

RatesByGroupDisplay.from_report(report)
