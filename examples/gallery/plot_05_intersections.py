"""
Intersections and control features
==================================

Two sensitive columns make intersections: a network may be fair by sex and fair by origin, and not
to women from abroad. Groups are compared within values of the control feature. Read the sizes
first: what is small cannot be told.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(8000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=2000, random_state=0)

home, home_test = (
    table["loan_purpose"].eq("home").map({True: "home loan", False: "other loan"}).rename("loan")
    for table in (X, X_test)
)

pruner = FairPruner(tolerance=0.2, tolerance_on="training", random_state=0)
pruner.fit(X, y, sensitive_features=s, control_features=home)
report = fairness_report(
    pruner, X_test, y_test, sensitive_features=s_test, control_features=home_test
)
print(report)

# %%
# Dense against pruned, by group.

from fairprune_sk.displays import RatesByGroupDisplay

RatesByGroupDisplay.from_report(report)
