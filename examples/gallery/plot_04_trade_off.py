"""
The whole trade-off in one fit
==============================

Every sparsity and every tolerance, with cross-validation, from one dense network for each fold. The
gaps of the surface are those of held-out rows. What is chosen is the sparsest network within the
estimator's own tolerance. Fits are for their training rows here, to save time.
"""

from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, FairPrunerCV
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(4000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=1500, random_state=0)

search = FairPrunerCV(
    FairPruner(tolerance=0.2, tolerance_on="training", random_state=0),
    sparsity=(0.8, 0.95),
    tolerance=(0.1, 0.3),
    cv=2,
)
search.fit(X, y, sensitive_features=s["sex"])
print(search.surface_.round(3).T.to_string())

# %%
# The chosen point leans, since it was chosen among several: measure it on rows of no fold.

from fairprune_sk.displays import TradeOffDisplay

TradeOffDisplay.from_results(search, tolerance=0.2)
