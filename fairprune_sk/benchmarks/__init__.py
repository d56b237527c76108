"""Comparisons of fair classifiers on tables, and what they need."""

from fairprune_sk.benchmarks.methods import METHODS, Method
from fairprune_sk.benchmarks.runner import benchmark

__all__ = ["METHODS", "Method", "benchmark"]
