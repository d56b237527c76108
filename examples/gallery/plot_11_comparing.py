"""
Comparing on your own table
===========================

One row for each fit, on rows that it has not seen. Two seeds and few rows show how it is called,
not which method is better: a gap near its noise floor is no finding.
"""

from fairprune_sk import benchmark
from fairprune_sk.datasets import TableDescription, make_biased_classification, table_from_frame

X, y, s = make_biased_classification(1500, random_state=0)
frame = X.assign(repaid=y.to_numpy(), sex=s["sex"].to_numpy())
table = table_from_frame(frame, TableDescription(target="repaid", sensitive=("sex",)), "loans")
fits = benchmark(
    ["fairpruner", "bip", "threshold_optimizer(logistic)"],
    [table],
    sparsities=[0.8],
    seeds=2,
)
columns = ["method", "seed", "constraint", "accuracy", "gap", "noise_floor"]
print(fits[columns].round(3).to_string(index=False))
