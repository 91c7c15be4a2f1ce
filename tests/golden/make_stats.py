#!/usr/bin/env python3
"""Prints the rank statistics that tests/test_stats.c holds, by scipy 1.17: rankdata, spearmanr, numpy var."""
import numpy as np
from scipy.stats import rankdata, spearmanr

a = [3.5, -1.0, 2.25, 2.25, 7.0, 0.0, 2.25, -1.0, 11.0, 4.0]
b = [1.0, 0.5, 3.0, 3.0, 2.0, -4.0, 8.0, 0.25, 6.0, 6.0]
print("ranks of a", rankdata(a).tolist())
print("ranks of b", rankdata(b).tolist())
print("spearman  ", repr(spearmanr(a, b).statistic))
print("variance  ", repr(np.var(a, ddof=1)), "mean", repr(np.mean(a)))
