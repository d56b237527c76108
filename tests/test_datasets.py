"""The generated table has the bias that its documentation states, and no other."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from fairprune_sk.datasets import make_biased_classification

SENSITIVE = {"sex": ["female", "male"], "origin": ["local", "regional", "abroad"]}
NUMERIC = {
    "age": "int16",
    "experience_years": "float32",
    "income": "float32",
    "savings": "float32",
    "credit_score": "float32",
    "late_payments": "int16",
    "loan_amount": "float32",
}
CATEGORICAL = ["education", "occupation", "district", "loan_purpose"]

# What merit and chance alone decide: the same in every world.
UNTOUCHED = ["age", "education", "experience_years", "loan_amount", "loan_purpose"]


def rates(y, group):
    """Return the base rate of each group."""
    return y.groupby(group, observed=True).mean()


@pytest.fixture(scope="module")
def fair():
    """Generate a large table without bias."""
    return make_biased_classification(200_000, bias=0, random_state=0)


@pytest.fixture(scope="module")
def biased():
    """Generate the same people with full bias."""
    return make_biased_classification(200_000, random_state=0)


@pytest.mark.parametrize("n_samples", [1, 100, 5_000])
def test_names_and_dtypes(n_samples):
    X, y, s = make_biased_classification(n_samples, random_state=0)
    assert X.shape == (n_samples, 12) and y.shape == (n_samples,) and s.shape == (n_samples, 2)
    assert set(X) == {*NUMERIC, *CATEGORICAL, "part_time"}
    assert not set(X) & set(s)
    assert {name: str(X[name].dtype) for name in NUMERIC} == NUMERIC
    assert all(isinstance(X[name].dtype, pd.CategoricalDtype) for name in CATEGORICAL)
    assert X["part_time"].dtype == bool
    assert y.name == "approved" and y.dtype == np.int64 and set(y) <= {0, 1}
    assert {name: list(s[name].cat.categories) for name in s} == SENSITIVE
    assert X.index.equals(y.index) and X.index.equals(s.index)


def test_a_hundred_rows_hold_both_classes_and_all_groups():
    for random_state in range(20):
        _, y, s = make_biased_classification(100, random_state=random_state)
        assert set(y) == {0, 1}
        assert all(set(s[name]) == set(values) for name, values in SENSITIVE.items())


def test_columns_are_as_documented(biased):
    X, y, s = biased
    assert set(X.columns[X.isna().any()]) == {"credit_score"}
    assert X["credit_score"].isna().mean() == pytest.approx(0.08, abs=0.005)
    assert (X["savings"] == 0).mean() == pytest.approx(0.65, abs=0.02)
    assert X["savings"].skew() > 5
    assert (X["late_payments"] == 0).mean() == pytest.approx(0.70, abs=0.02)
    assert X["late_payments"].between(0, 24).all()
    assert X["age"].between(20, 64).all()
    assert (X["experience_years"] <= X["age"] - 19).all()
    assert X["education"].cat.ordered
    # The binomial standard error at this size is 0.001.
    assert (s["sex"] == "female").mean() == pytest.approx(0.45, abs=0.005)
    assert y.mean() == pytest.approx(0.39, abs=0.01)
    assert rates(y, s["sex"]).to_dict() == pytest.approx({"female": 0.23, "male": 0.52}, abs=0.015)
    assert rates(y, s["origin"])[["local", "abroad"]].to_list() == pytest.approx(
        [0.45, 0.18], abs=0.015
    )


def test_columns_follow_the_documented_equations(biased):
    """A literal transcription of the docstring at bias 1, compared group by group."""
    rng = np.random.RandomState(0)
    n = 200_000
    e, u = rng.randn, rng.rand
    female = u(n) < 0.45
    origin = np.digitize(u(n), [0.60, 0.85])
    merit = e(n)
    harm = female + np.array([0, 0.4, 0.8])[origin]
    harm -= 0.45 + 0.25 * 0.4 + 0.15 * 0.8
    standing = merit - harm
    age = np.floor(20 + 45 * u(n) ** 1.3)
    experience = (age - 19) * u(n) ** np.exp(-merit / 2)
    need = e(n)
    w = 0.7 * standing + 0.7 * e(n)
    part_time = u(n) < np.where(female, 0.45, 0.10)
    redlined = u(n) < np.array([0.20, 0.30, 0.75])[origin]
    prejudice = part_time + redlined.astype(float)
    prejudice -= (0.45 * 0.45 + 0.55 * 0.10) + (0.60 * 0.20 + 0.25 * 0.30 + 0.15 * 0.75)
    purpose = np.digitize(u(n), [0.35, 0.65, 0.85])  # car, home, business, education
    worth = standing + 0.2 * np.minimum(5, experience) + 0.1 * (purpose == 3)
    worth += -0.6 * need * (purpose == 0) + (0.3 + 0.4 * need) * (purpose == 1)
    worth -= (0.6 + 0.8 * need) * (purpose == 2)
    expected = {
        "age": age,
        "experience_years": experience,
        "masters": 0.8 * merit + 0.6 * e(n) > 1.1,
        "log_income": 10.4 + 0.35 * standing + 0.12 * e(n),
        "log_amount": 9.3 + 0.6 * need,
        "savers": w > 0.4,
        "log_savings": np.where(w > 0.4, 8 + 1.2 * w, 0),
        "late_payments": np.minimum(24, np.floor(np.exp(-0.6 - 0.9 * standing + 0.36 * e(n)))),
        "credit_score": 600 + 80 * standing + 32 * e(n),
        "part_time": part_time,
        "redlined": redlined,
        "approved": worth - prejudice + 0.8 * e(n) > 1.3,
    }
    expected = pd.DataFrame(expected, dtype=float)
    expected.loc[u(n) < 0.08 * (1 + harm), "credit_score"] = np.nan
    X, y, s = biased
    log_savings = np.log(X["savings"].where(X["savings"] > 0, 1))
    actual = X[["age", "experience_years", "late_payments", "credit_score", "part_time"]].assign(
        masters=X["education"] == "master",
        log_income=np.log(X["income"]),
        log_amount=np.log(X["loan_amount"]),
        savers=X["savings"] > 0,
        log_savings=log_savings,
        redlined=X["district"].isin(["harbour", "outskirts"]),
        approved=y,
    )
    actual = (
        actual[expected.columns]
        .astype(float)
        .assign(
            sex=s["sex"].cat.codes,
            origin=s["origin"].cat.codes,
            purpose=X["loan_purpose"].cat.codes,
        )
    )
    expected = expected.assign(sex=1 - female, origin=origin, purpose=purpose)
    # Given the decision as well, so that what each column adds to it counts.
    for by in (["sex", "origin"], ["approved", "purpose"]):
        a, b = actual.groupby(by), expected.groupby(by)
        # About 200 means: one of so many exceeds 4.5 standard errors once in 700 tables.
        error = 4.5 * np.sqrt(a.var() / a.count() + b.var() / b.count())
        assert np.all((a.mean() - b.mean()).abs() <= error), by


def test_same_integer_same_rows_and_global_state_untouched():
    before = np.random.get_state()
    first = make_biased_classification(500, random_state=7)
    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    for a, b in zip(first, make_biased_classification(500, random_state=7), strict=True):
        assert a.equals(b)
    assert not first[0].equals(make_biased_classification(500, random_state=8)[0])


def test_random_state_instance_advances():
    random_state = np.random.RandomState(7)
    first, _, _ = make_biased_classification(500, random_state=random_state)
    second, _, _ = make_biased_classification(500, random_state=random_state)
    assert first.equals(make_biased_classification(500, random_state=7)[0])
    assert not first.equals(second)


@pytest.mark.parametrize("sensitive", SENSITIVE)
def test_no_bias_means_independence(fair, sensitive):
    """Chi-squared and Kolmogorov-Smirnov tests, at a level that 30 tests together seldom reach.

    At p > 1e-4 each, a correct generator fails with probability 0.003 over the random states;
    the fixed one either passes or does not. A real difference of 0.02 between the rates of two
    groups would have p < 1e-9 at this size.
    """
    X, y, s = fair
    columns = X.assign(approved=y, missing=X["credit_score"].isna())
    for name in [*CATEGORICAL, "part_time", "late_payments", "approved", "missing"]:
        counts = pd.crosstab(columns[name], s[sensitive])
        counts = counts[counts.min(axis=1) >= 5]  # rare counts have no chi-squared distribution
        assert chi2_contingency(counts).pvalue > 1e-4, name
    one = s[sensitive] == SENSITIVE[sensitive][-1]
    for name in ["age", "experience_years", "income", "savings", "credit_score", "loan_amount"]:
        values = X[name].dropna()
        assert ks_2samp(values[one], values[~one]).pvalue > 1e-4, name


@pytest.mark.parametrize("sensitive", SENSITIVE)
def test_bias_raises_the_gap(sensitive):
    gaps = []
    for bias in (0, 0.25, 0.5, 0.75, 1):
        _, y, s = make_biased_classification(20_000, bias=bias, random_state=1)
        gaps.append(np.ptp(rates(y, s[sensitive])))
    assert np.all(np.diff(gaps) > 0.02)
    assert gaps[-1] > 0.25


def test_another_bias_gives_the_counterfactual_rows(fair, biased):
    (X0, y0, s0), (X1, y1, s1) = fair, biased
    assert s0.equals(s1)
    assert X0[UNTOUCHED].equals(X1[UNTOUCHED])
    for name in ("income", "savings"):
        assert np.all((X1[name] <= X0[name])[s1["sex"] == "female"]), name
    # Most harmed, most helped; the others' decisions may change either way.
    lost = rates((y0 > y1).astype(int), [s1["sex"], s1["origin"]])
    won = rates((y1 > y0).astype(int), [s1["sex"], s1["origin"]])
    assert lost["female", "abroad"] > 0.2 > 100 * won["female", "abroad"]
    assert won["male", "local"] > 0.1


def test_missing_scores_follow_harm(biased):
    X, _, s = biased
    missing = X["credit_score"].isna().groupby([s["sex"], s["origin"]], observed=True).mean()
    assert missing["female", "abroad"] == pytest.approx(0.08 * (1 + 1.13), abs=0.01)
    assert missing["male", "local"] == pytest.approx(0.08 * (1 - 0.67), abs=0.005)


@pytest.mark.parametrize("n_samples", [0, -1, 100.0, "100", True, None])
def test_rejects_n_samples(n_samples):
    with pytest.raises(ValueError, match=rf"Got n_samples={n_samples!r}, but expected a positive"):
        make_biased_classification(n_samples)


@pytest.mark.parametrize("bias", [-0.1, 1.1, np.nan, "1", True, None])
def test_rejects_bias(bias):
    with pytest.raises(ValueError, match=r"Got bias=.*, but expected a number in \[0, 1\]\."):
        make_biased_classification(100, bias=bias)
