"""
ONNX
====

One input for each column; missing values and categories are part of the graph. The largest
difference to Python is printed.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification

X, y, s = make_biased_classification(1000, random_state=0)
X, X_test, y, y_test, s, s_test = train_test_split(X, y, s, test_size=0.4, random_state=0)

pruner = FairPruner(max_epochs=5, tolerance_on="training", random_state=0).fit(
    X, y, sensitive_features=s["sex"]
)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    pruner.to_onnx(path, X=X)
    print(f"{path.stat().st_size:,} bytes")
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, pruner.onnx_inputs(X_test))
for output, value in zip(session.get_outputs(), outputs, strict=True):
    print(output.name, np.shape(value))
