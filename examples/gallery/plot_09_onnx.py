"""
ONNX
====

The graph has one input for each column of the table, and holds what the fit learned about missing
values and categories: whoever runs it needs neither Python nor this package.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(2000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, train_size=1200, random_state=0)

pruner = FairPruner(tolerance=0.2, tolerance_on="training", max_epochs=60, random_state=0)
pruner.fit(X, y, sensitive_features=s["sex"])
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    pruner.to_onnx(path, X=X)
    print(f"{path.stat().st_size:,} bytes")
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, pruner.onnx_inputs(X_test))
for given in session.get_inputs():
    print("input ", given.name, given.type)
for output, value in zip(session.get_outputs(), outputs, strict=True):
    print("output", output.name, np.shape(value))

# %%
# The same probabilities, to the precision of single floats.

differences = np.abs(outputs[-1] - pruner.predict_proba(X_test))
print(f"largest difference to Python: {differences.max():.1e}")

# %%
# What the graph still reads of each column.

from fairprune_sk.displays import ColumnsDisplay

ColumnsDisplay.from_estimator(pruner)
