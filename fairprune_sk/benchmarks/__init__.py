"""Comparisons of fair classifiers on tables, and what they need."""

from fairprune_sk.benchmarks.runner import METHODS, Method, benchmark

__all__ = ["METHODS", "Method", "benchmark"]
