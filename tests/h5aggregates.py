#!/usr/bin/env python3
"""h5aggregates.py STORE FILE: recomputes aggregates, ranks and correlations of a store with numpy, by the definitions, and exits 1 unless
those that bin/aggregate wrote into FILE agree to 1e-9 (relative to the largest)."""
import sys
import h5py
import numpy as np


def ranks(x):
    x = x.ravel()
    return np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])


def spearman(a, b):
    a, b = ranks(a), ranks(b)
    return np.nan if a.std() == 0 or b.std() == 0 else np.corrcoef(a, b)[0, 1]


bad = checked = 0


def check(f, name, want):
    global bad, checked
    checked += 1
    got = f[name][()] if name in f else np.array(np.nan)
    if got.shape != np.shape(want) or not np.allclose(got, want, rtol=0, atol=1e-9 * max(1e-300, np.nanmax(np.abs(want))), equal_nan=True):
        bad += 1
        print("differs:", name)


with h5py.File(sys.argv[1], "r") as s, h5py.File(sys.argv[2], "r") as f:
    task_of = [t.decode() for t in s["examples/task"][:]]
    tasks = list(dict.fromkeys(task_of))
    for suffix in ("", "_compat"):
        total = {"heads": {}, "neurons": {}}
        for kind in total:
            for crit in s.get("scores" + suffix, {}):
                g = s[f"scores{suffix}/{crit}"]
                if kind not in g:
                    continue
                x = g[kind][:].astype(np.float64)
                rows = g["index"][:] if len(x) != len(task_of) else np.arange(len(x))
                own = np.array([task_of[r] for r in rows])
                R = np.array([ranks(r) for r in x]).reshape(x.shape)
                per = []
                for t in tasks + ["all"]:
                    take = own == t if t != "all" else own != ""
                    if not take.any():
                        continue
                    agg = np.mean(per, axis=0) if t == "all" else x[take].mean(0) if suffix == "" else x[take].sum(0)
                    per.append(agg)
                    check(f, f"aggregates{suffix}/{t}/{crit}/{kind}", agg)
                    check(f, f"ranks{suffix}/{t}/{crit}/{kind}_mean", R[take].mean(0))
                    if take.sum() > 1:
                        check(f, f"ranks{suffix}/{t}/{crit}/{kind}_variance", R[take].var(0, ddof=1) / x[0].size ** 2)
                total[kind][crit] = per[-1]
            for t in tasks:
                for crit in s.get(f"task_scores{suffix}/{t}", {}):
                    if kind in s[f"task_scores{suffix}/{t}/{crit}"]:
                        total[kind].setdefault(crit, []).append(s[f"task_scores{suffix}/{t}/{crit}/{kind}"][:].astype(np.float64))
            for crit, x in total[kind].items():
                if isinstance(x, list):
                    total[kind][crit] = np.mean(x, axis=0)
                    check(f, f"aggregates{suffix}/all/{crit}/{kind}", total[kind][crit])
            names = sorted(total[kind])
            if names:
                check(f, f"correlation{suffix}/{kind}", np.array([[spearman(total[kind][a], total[kind][b]) for b in names] for a in names]))
            truth = total[kind].get("removal")
            for crit in names:
                if truth is not None and crit != "removal":
                    got = f[f"removal{suffix}/{kind}/{crit}"].attrs.get("aggregate_spearman", np.nan)
                    checked += 1
                    if not np.isclose(got, spearman(total[kind][crit], truth), atol=1e-9, equal_nan=True):
                        bad += 1
                        print("differs: removal", suffix, kind, crit)
print(checked, "checked,", bad, "differ")
sys.exit(1 if bad or not checked else 0)
