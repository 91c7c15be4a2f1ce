#!/usr/bin/env python3
"""compacted.py MODEL STORE - losses of a store of a compacted model against an OPT forward pass in float64 numpy (numpy_opt.py). Exit 1 and a line
where one differs by more than 2e-5 of itself, or where a layer has not the units that config.json lists."""
import sys
import h5py
import numpy as np
from numpy_opt import Opt

model, store = sys.argv[1:]
opt = Opt(model)
heads, neurons = opt.config["num_attention_heads_per_layer"], opt.config["ffn_dim_per_layer"]
for l in range(opt.L):
    rows = [opt.weight[f"layers.{l}.{name}.weight"].shape[0] for name in ("self_attn.q_proj", "fc1")]
    if rows != [heads[l] * opt.D, neurons[l]]:
        sys.exit(f"FAIL: layer {l} has not {heads[l]} heads and {neurons[l]} neurons")

with h5py.File(store) as s:
    tokens, offset, context, loss = (s[f"examples/{k}"][()] for k in ("tokens", "offset", "context_length", "loss"))
worst = 0
for i, want in enumerate(loss):
    ids = tokens[offset[i] : offset[i + 1]]
    lp = opt.log_probabilities(ids)
    mine = -lp[np.arange(context[i] - 1, len(ids) - 1), ids[context[i] :]].mean()
    worst = max(worst, abs(mine - want) / abs(mine))
    if not abs(mine - want) <= 2e-5 * abs(mine): sys.exit(f"FAIL: example {i}: loss {want}, in numpy {mine}")
print(f"{len(loss)} losses as in numpy, within {worst:.1e}; heads {heads}")
