"""
Sparsity and fairness weight in a search
========================================

With ``tolerance=None`` the fairness term is a penalty, so its weight is searched. Gaps are scored
negatively.
"""

import pandas as pd
import sklearn
from sklearn.model_selection import GridSearchCV, train_test_split

from fairprune_sk import FairPruner, make_fairness_scorer, sparsest_within
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(1200, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

with sklearn.config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        FairPruner(tolerance=None, max_epochs=5, random_state=0),
        {"sparsity": [0.8, 0.9], "fairness_weight": [0.5, 2.0]},
        scoring={"accuracy": "accuracy", "gap": make_fairness_scorer("equalized_odds")},
        refit=sparsest_within(max_gap=0.2, max_accuracy_loss=0.05),
        cv=2,
    )
    search.fit(X, y, sensitive_features=s["sex"])
columns = ["param_sparsity", "param_fairness_weight", "mean_test_accuracy", "mean_test_gap"]
print(pd.DataFrame(search.cv_results_)[columns])
print(search.best_params_)
