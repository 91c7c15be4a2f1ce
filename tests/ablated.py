#!/usr/bin/env python3
"""ablated.py MODEL MASK MEANS STORE - losses of a store of a model whose pruned units put out means, against MODEL in float64 numpy (numpy_opt.py) with
every value of a unit that MASK drops replaced by its mean of MEANS (an aggregate of flap over all). Exit 1 and a line where one is off by 2e-5 of itself."""
import sys
import h5py
import numpy as np
from numpy_opt import Opt

model, mask, means, store = sys.argv[1:]
opt = Opt(model)
with h5py.File(mask) as m, h5py.File(means) as f:
    keep = {k: m[f"mask/{k}"][()] == 1 for k in ("heads", "neurons")}
    mean = {k: f[f"aggregates/all/flap/{k}_mean"][()] for k in keep}


def put_out(layer, kind, x):
    width = x.shape[1] // keep[kind].shape[1]
    return np.where(np.repeat(keep[kind][layer], width), x, mean[kind][layer])


with h5py.File(store) as s:
    tokens, offset, context, loss = (s[f"examples/{k}"][()] for k in ("tokens", "offset", "context_length", "loss"))
worst = moved = 0
for i, want in enumerate(loss):
    ids = tokens[offset[i] : offset[i + 1]]
    at = np.arange(context[i] - 1, len(ids) - 1), ids[context[i] :]
    mine, dense = -opt.log_probabilities(ids, put_out)[at].mean(), -opt.log_probabilities(ids)[at].mean()
    worst, moved = max(worst, abs(mine - want) / abs(mine)), max(moved, abs(mine - dense) / abs(mine))
if not worst <= 2e-5 or not moved > 1e-3: sys.exit(f"FAIL: losses are off by {worst:.1e}; pruning moves them by {moved:.1e}")
print(f"{len(loss)} losses as in numpy, within {worst:.1e}; pruning moves them by up to {moved:.1e}")
