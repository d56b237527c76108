"""
Certifying
==========

An estimate is no proof. A certificate bounds the gap for the people whom the rows were drawn from,
and says how many rows would decide where these do not.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, certify
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(22_000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=2000, random_state=0)

pruner = FairPruner(tolerance=0.1, random_state=0).fit(X, y, sensitive_features=s["sex"])
print(certify(pruner, X_test[:800], y_test[:800], sensitive_features=s_test["sex"][:800]))

# %%
# The same network, on 25 times as many rows, for its tolerance and for a larger one.

for tolerance in (0.1, 0.12):
    print(certify(pruner, X_test, y_test, sensitive_features=s_test["sex"], tolerance=tolerance))

# %%
# What a certificate does not look at: how well each group is ranked, and whether its probabilities
# are what they say.

from fairprune_sk.displays import CurvesByGroupDisplay

CurvesByGroupDisplay.from_estimator(pruner, X_test, y_test, sensitive_features=s_test["sex"])
