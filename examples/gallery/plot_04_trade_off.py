"""
The whole trade-off in one fit
==============================

One dense network for each fold serves all cells. The gaps are those of held-out rows.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, FairPrunerCV
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(1200, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

search = FairPrunerCV(
    FairPruner(max_epochs=6, tolerance_on="training", random_state=0),
    sparsity=(0.7, 0.9),
    tolerance=(0.05, 0.2),
    cv=2,
)
search.fit(X, y, sensitive_features=s["sex"])
print(search.surface_)

# %%
# The best point leans, since it was chosen among several: measure it on other rows.

from fairprune_sk.displays import TradeOffDisplay

TradeOffDisplay.from_results(search, tolerance=0.05)
