"""
Sparsity and fairness weight in a search
========================================

With ``tolerance=None`` the fairness term is a penalty, as in the paper, so its weight is searched.
Gaps are scored negatively, since searches maximise. ``memory`` trains one dense network for each
fold, not one for each fit. ``max_epochs`` is short here, to save time.
"""

import tempfile

import pandas as pd
import sklearn
from sklearn.model_selection import GridSearchCV, train_test_split

from fairprune_sk import FairPruner, make_fairness_scorer, sparsest_within
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(4000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=1500, random_state=0)

with tempfile.TemporaryDirectory() as memory, sklearn.config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        FairPruner(tolerance=None, max_epochs=40, memory=memory, random_state=0),
        {"sparsity": [0.8, 0.95], "fairness_weight": [0.1, 0.5]},
        scoring={"accuracy": "accuracy", "gap": make_fairness_scorer("equalized_odds")},
        refit=sparsest_within(max_gap=0.2, max_accuracy_loss=0.05),
        cv=2,
    )
    search.fit(X, y, sensitive_features=s["sex"])
columns = ["param_sparsity", "param_fairness_weight", "mean_test_accuracy", "mean_test_gap"]
print(pd.DataFrame(search.cv_results_)[columns].round(3).to_string(index=False))
print("chosen:", search.best_params_)

# %%
# Accuracy against the gap, for each network of the search.

from fairprune_sk.displays import TradeOffDisplay

TradeOffDisplay.from_results(search, tolerance=0.2)
