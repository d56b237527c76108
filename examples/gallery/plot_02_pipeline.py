"""
A table like Adult, in a Pipeline
=================================

The default network takes numbers, categories and missing values as they are, so most pipelines need
no preparation. Where yours prepares columns all the same, ``FairPruner`` is its last step, and the
sensitive feature passes through to the fit.
"""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(5000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=2000, random_state=0)

preparation = make_column_transformer(
    (SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")),
    remainder="passthrough",
    verbose_feature_names_out=False,
).set_output(transform="pandas")
pipeline = make_pipeline(
    preparation, FairPruner(constraint="demographic_parity", tolerance=0.2, random_state=0)
)
pipeline.fit(X, y, fairpruner__sensitive_features=s["sex"])
report = fairness_report(pipeline, X_test, y_test, sensitive_features=s_test["sex"])
print(report)

# %%
# Dense against pruned, by group.

from fairprune_sk.displays import RatesByGroupDisplay

RatesByGroupDisplay.from_report(report)
