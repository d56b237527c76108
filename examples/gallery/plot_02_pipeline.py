"""
A table as Adult, in a Pipeline
===============================

An imputer before the pruner; sensitive features pass through the Pipeline to the fit.
"""

from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(1500, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

numbers = X.select_dtypes("number").columns
pipeline = make_pipeline(
    SimpleImputer(), FairPruner(max_epochs=15, tolerance_on="training", random_state=0)
)
pipeline.fit(X[numbers], y, fairpruner__sensitive_features=s["sex"])
report = fairness_report(pipeline, X_test[numbers], y_test, sensitive_features=s_test["sex"])
print(report)
