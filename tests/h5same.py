#!/usr/bin/env python3
"""h5same.py A B [MESSAGE] [half]: exits 1 unless two stores hold the same datasets, bit for bit (attributes carry dates and may differ).
half: B's scores are 16 bit with scales; they must be within 2^-11 of the value or 2^-38 of the row's largest, all else the same."""
import sys
import h5py
import numpy as np


def datasets(f):
    out = {}
    f.visititems(lambda name, o: out.__setitem__(name, o[()]) if isinstance(o, h5py.Dataset) else None)
    return out


half = "half" in sys.argv[3:]
with h5py.File(sys.argv[1], "r") as fa, h5py.File(sys.argv[2], "r") as fb:
    a, b = datasets(fa), datasets(fb)
bad = sorted(n for n in set(a) ^ set(b) if not (half and n.endswith("_scale")))
for n in sorted(set(a) & set(b)):
    x, y = a[n], b[n]
    if half and n + "_scale" in b:
        scale = b[n + "_scale"].astype(np.float64)[:, None, None]
        x, y = x.astype(np.float64), y.astype(np.float64) * scale
        largest = np.abs(x).max(axis=(1, 2), keepdims=True)
        if y.shape != x.shape or not (np.abs(x - y) <= np.maximum(2.0**-11 * np.abs(x), 2.0**-38 * largest)).all():
            bad.append(n)
    elif x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
        bad.append(n)
if not a or bad:
    print("differ:", " ".join(bad) or "no datasets")
    sys.exit(1)
