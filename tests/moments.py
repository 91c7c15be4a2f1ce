#!/usr/bin/env python3
"""moments.py MODEL STORE AGGREGATES - the moments of flap, its scores and those of wanda, in float64 numpy: all tokens of a task (of all tasks) in one
array, var with ddof 1; the forward pass is numpy_opt.py's. Exit 1 and a line where a number is off by more than 2e-5 of its layer's largest."""
import sys
import h5py
import numpy as np
from numpy_opt import Opt

model, store, aggregates = sys.argv[1:]
opt = Opt(model)
checked = 0


def check(f, name, want):
    global checked
    got = f[name][()]
    if got.shape != want.shape or not (np.abs(got - want).max(-1) <= 2e-5 * np.abs(want).max(-1)).all():
        sys.exit(f"FAIL: {f.filename}: {name} is not what numpy says")
    checked += got.size


with h5py.File(store) as s, h5py.File(aggregates) as f:
    tokens, offset = s["examples/tokens"][()], s["examples/offset"][()]
    task_of = [t.decode() for t in s["examples/task"][:]]
    values = {"heads": [], "neurons": []}  # of each example [L, T, columns]

    def see(layer, kind, x):
        if layer == 0: values[kind].append([])
        values[kind][-1].append(x)
        return x

    for i in range(len(task_of)): opt.log_probabilities(tokens[offset[i] : offset[i + 1]], see)
    for kind, all_values in values.items():
        norms = np.stack([(opt.reader(l, kind) ** 2).sum(0) for l in range(opt.L)])
        check(s, f"squared_norms/{kind}", norms)
        units = s[f"scores/wanda/{kind}"].shape[2]
        per_unit = lambda x: x.reshape(opt.L, units, -1).sum(2)
        wanda = np.stack([np.sqrt(per_unit((np.stack(x) ** 2).sum(1) * norms)) for x in all_values])
        check(s, f"scores/wanda/{kind}", wanda)
        for task in [*dict.fromkeys(task_of), "all"]:
            x = np.concatenate([np.stack(v) for v, t in zip(all_values, task_of) if task in (t, "all")], axis=1)
            mean, variance = x.mean(1), x.var(1, ddof=1)
            for file, group in ((s, f"task_scores/{task}/flap"), (f, f"aggregates/{task}/flap")):
                if group not in file and task == "all": continue
                check(file, f"{group}/{kind}_mean", mean)
                check(file, f"{group}/{kind}_variance", variance)
                check(file, f"{group}/{kind}", per_unit(variance * norms))
                if file[group].attrs["tokens"] != x.shape[1]: sys.exit(f"FAIL: {group}: tokens")
print(f"{checked} numbers as in numpy")
