#!/usr/bin/env python3
"""planted.py STORE HASH [MASK]: a store of random features for the model tests/golden/opt/pre, or what bin/prune made of it by MASK, whose scores are functions of what a design reads, one
criterion per design, so that the design must find it: early (layer 0's head outputs), same (each layer's own), residual (the residual entering the
layer before), lowrank (that for heads, the residual after attention for neurons), tokens (which tokens are in the context), task (which of two tasks the example is of, and noise),
and noise.
planted.py --check STORE PREDICTIONS PREDICTORS DESIGN: recomputes from the predictions the numbers that stand with the predictor, and those of the means of its training examples; prints
the predictor's rho (dejavu-lowrank: overlap), the static mean's and the task mean's, and how many test examples have no task mean."""
import sys
import warnings
import h5py
import numpy as np

L, H, E, F, N = 3, 4, 24, 32, 640
USED = 3  # features of a state that matter
LONE = 16  # documents that are a task of their own: those in the test part have no training examples


def scale(x, axis):  # NaN: a unit that a compacted model has lost
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a layer may have lost all
        low, high = np.nanmin(x, axis=axis, keepdims=True), np.nanmax(x, axis=axis, keepdims=True)
    return np.divide(x - low, high - low, out=np.where(np.isnan(x), np.nan, 0).astype(x.dtype), where=high > low)


def ranks(x):
    order = np.argsort(x, kind="stable")
    r = np.empty(len(x))
    r[order] = np.arange(len(x))
    for v in np.unique(x):
        r[x == v] = r[x == v].mean()
    return r


def rho(a, b):
    return np.corrcoef(ranks(a), ranks(b))[0, 1]


def make(path, model_hash, mask=None):
    rng, own = np.random.default_rng(10), np.random.default_rng(2)
    state = {k: rng.random((N, L, E)) for k in ("head_output", "residual", "residual_mid")}
    task = np.arange(N) // 2 % 2
    for v in state.values():  # a feature says which of two tasks it is; only the scores of criterion task depend on it
        v[:, :, USED] = 0.1 + 0.5 * task[:, None] + 0.3 * v[:, :, USED]
    x = {k: scale(v, 2)[:, :, :USED] for k, v in state.items()}
    length = rng.integers(20, 40, N)
    tokens = [rng.choice(np.arange(100, 104), n, p=rng.dirichlet(np.ones(4))) for n in length]
    share = np.array([[(t[:-4] == 100 + k).mean() for k in range(4)] for t in tokens])

    def function(v, units):
        return v @ rng.normal(size=(v.shape[1], units))

    def layers(parts):
        return np.stack(parts, 1)

    scores = {}
    for kind, units in (("heads", H), ("neurons", F)):
        mid = "residual" if kind == "heads" else "residual_mid"
        before = lambda key: layers([rng.normal(size=(N, units))] + [function(x[key][:, l - 1], units) for l in range(1, L)])
        scores[kind] = {
            "early": function(x["head_output"][:, 0], L * units).reshape(N, L, units),
            "same": layers([function(x["head_output"][:, l], units) for l in range(L)]),
            "residual": before("residual"),
            "lowrank": before(mid),
            "tokens": function(share, L * units).reshape(N, L, units),
            "noise": rng.normal(size=(N, L, units)),
            "task": own.normal(size=(2, L, units))[task] + own.normal(size=(N, L, units)),
        }
        if mask:  # what is left of a layer stands at the beginning of its row
            left = h5py.File(mask)[f"mask/{kind}"][:].sum(1)
            for c in scores[kind]:
                for l in range(L):
                    scores[kind][c][:, l, left[l] :] = np.nan
    names = np.array(["copa", "piqa"], "S8")[task]
    names[-2 * LONE :] = [f"lone{i // 2}" for i in range(2 * LONE)]
    with h5py.File(path, "w") as f:
        f.attrs["format"], f.attrs["model_hash"] = "opt unit scores 1", model_hash
        f["examples/id"] = np.array([str(i // 2) for i in range(N)], "S8")  # two examples of every document
        f["examples/task"] = names
        f["examples/tokens"] = np.concatenate(tokens).astype(np.int32)
        f["examples/offset"] = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        f["examples/context_length"] = (length - 4).astype(np.int32)
        f["examples/loss"] = np.ones(N)
        for suffix in ("", "_compat"):
            for k, v in state.items():
                f[f"features{suffix}/{k}"] = v.astype(np.float32)
            for kind in scores:
                for c, v in scores[kind].items():
                    f[f"scores{suffix}/{c}/{kind}"] = v.astype(np.float32)


# Two arrays [n, L, U], the units that are there: rho over all of them together, and the mean within layers of more than one unit. NaN: a side is constant.
def rhos(a, b, there):
    layers = [l for l in range(a.shape[1]) if there[l].sum() > 1]
    return np.array([rho(x[there], y[there]) for x, y in zip(a, b)]), np.array([np.mean([rho(x[l, there[l]], y[l, there[l]]) for l in layers]) for x, y in zip(a, b)])


# The means of the training rows, of all and of each test example's own task, against what is stored of them, and the gains over them.
def check_means(group, truth, train, test, task, there, ours):
    alike = [train[task[train] == task[i]] for i in test]
    quality = group["quality"]
    mean = {"static_mean": np.stack([truth[train].mean(0)] * len(test)), "task_mean": np.stack([truth[a if len(a) else train].mean(0) for a in alike])}
    columns, rows = quality.attrs["columns"].split(","), quality.attrs["rows"].split(",")
    assert rows == ["predictor", "static_mean", "task_mean", "input_norm"], rows
    assert group.attrs["test_examples_without_task_mean"] == sum(len(a) == 0 for a in alike) > 0
    for by, m in mean.items():
        stored, baseline = dict(zip(columns, quality[rows.index(by)])), rhos(m, truth[test], there)
        for which, mine, theirs in zip(("joint", "within"), ours, baseline):
            gain = mine - theirs
            assert abs(stored[f"{which}_rho"] - theirs.mean()) < 1e-4, (by, which, stored, theirs.mean())
            assert abs(group.attrs[f"gain_{by}_{which}"] - gain.mean()) < 1e-4, (by, which, gain.mean())
            assert abs(group.attrs[f"gain_{by}_{which}_stderr"] - gain.std(ddof=1) / np.sqrt(len(gain))) < 1e-4, (by, which)


def check(store, predictions, predictors, design):
    with h5py.File(store) as s, h5py.File(predictions) as p, h5py.File(predictors) as t:
        layer, lag = t.attrs["target"] == "layer", int(t.attrs["lag"])
        for c in p["predictions"]:
            for kind in ("heads", "neurons"):
                index = p[f"predictions/{c}/index"][:]
                train = p[f"predictions/{c}/train_index"][:]
                ids, task = s["examples/id"][:], s["examples/task"][:]
                if kind == "neurons" and f"predictions/{c}/neurons_index" in p:
                    index, train = p[f"predictions/{c}/neurons_index"][:], p[f"predictions/{c}/neurons_train_index"][:]
                assert set(ids[index]).isdisjoint(set(np.delete(ids, index))), "a document is in two parts"
                share = 0.7 if t.attrs["mode"] == "sound" else 0.8 if kind == "heads" else 0.9
                assert set(ids[train]).isdisjoint(set(np.delete(ids, train))) and len(train) == round(share * N), "training rows"
                got, raw = p[f"predictions/{c}/{kind}"][:].astype(float), s[f"scores/{c}/{kind}"][:].astype(np.float32)
                truth = (scale(raw, 2) if layer else scale(raw.reshape(len(raw), -1), 1).reshape(raw.shape)).astype(float)[:, lag:]
                q = t[f"predictors/{c}/{kind}/quality"]
                columns = q.attrs["columns"].split(",")
                stored = dict(zip(columns, q[0]))
                got, want = got[:, lag:], truth[index]
                there = np.isfinite(want[0])
                assert (np.isfinite(got) == there).all() and (np.isfinite(want) == there).all(), "predictions for units that are not there"
                group = t[f"predictors/{c}/{kind}"]
                last = np.concatenate([group[f"layer_{l:03d}"]["fc2.weight"][:] for l in range(lag, L)]) if "layer_001" in group else group["fc2.weight"][:]
                assert not last[~there.ravel()].any() and (last[there.ravel()].any() or c == "noise"), "nets of units that are not there were trained"
                joint, within = rhos(got, want, there)
                assert abs(stored["joint_rho"] - joint.mean()) < 1e-4 and abs(stored["within_rho"] - within.mean()) < 1e-4, (c, kind, joint, within, stored)
                check_means(group, truth, train, index, task, there, (joint, within))
                if design != "dejavu-lowrank":
                    assert abs(stored["mse"] - np.nanmean((got - want) ** 2)) < 1e-6, (c, kind)
                assert q.shape == (4, 21) and t[f"predictors/{c}/{kind}"].attrs["parameters"] > 0
                # a classifier of the top half is judged by what it keeps
                column = columns.index("overlap_within_50" if design == "dejavu-lowrank" else "within_rho" if layer else "joint_rho")
                print(f"{design} {c} {kind} {q[0][column]:.4f} {q[1][column]:.4f} {q[2][column]:.4f} {int(t[f'predictors/{c}/{kind}'].attrs['test_examples_without_task_mean'])}")


if sys.argv[1] == "--check":
    check(*sys.argv[2:])
else:
    make(*sys.argv[1:])
