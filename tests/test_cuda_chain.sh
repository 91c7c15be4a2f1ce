#!/bin/sh
# test_cuda_chain - the whole chain on the default model by CUDA on the CPU (tests/cuda) beside the CPU: score,
# aggregate, train, sweep with static and contextual masks, generate. Scores within the agreement of two implementations
# (2e-4, grasp 2e-3, relative to the value or its layer's rms) and of the same ranks wherever a gap exceeds twice that;
# the same texts and choices; log-likelihoods within 1e-4. Training: losses of every epoch within 1e-4. Products differ
# by 1e-6 of their size, so do losses step by step; a parameter whose gradient is within rounding of zero may go the
# other way by as much as the rate, which the loss, flat in that direction, does not show. What one device sees on the
# other side of a ReLU within rounding of zero (nwot counts it) is told apart: at most one unit in 10,000.
bin=${BIN:-build/opt/bin} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$out/log"; exit 1; }
model=model/default data=data/world
. tests/needs.sh
needs_cuda
needs_h5py
printf '= A cake =\n\nThe cake was burned because someone left it in the oven .\n\n = A plant =\n\nAnna watered the plant every day therefore it grew tall .\n' >"$out/text.raw"

# Each stage takes another order of threads and streams (the tests of operations take them all); memory is protected in
# the last (not under sanitizers, which look at every access themselves).
protect=1
case $bin in *san*) protect=0 ;; esac
run() {
    CU_FAKE_PROTECT=$1 CUH_ORDER=$2 CU_FAKE_STREAMS=$3
    export CU_FAKE_PROTECT CUH_ORDER CU_FAKE_STREAMS
    shift 3
    "$bin/$@" >"$out/log" 2>&1 || fail "$*"
}
# The predictors learn from eight examples, scored on the CPU; four of them are scored on both devices.
score() { run 0 rev eager score --device $1 --model $model --data $data --tasks copa,winogrande --shots 0 --examples $2 --criteria $3 --mode $4 --out "$5"; }
score cpu 4 snip,nwot sound "$out/learn.h5"
run 0 fwd eager aggregate --store "$out/learn.h5" --out "$out/aggregates.h5"
for device in cpu cuda; do
    o=$out/$device
    score $device 2 all both "$o.h5"
    for design in shadow sequence; do
        run 0 rev random train --device $device --store "$out/learn.h5" --model $model --design $design --criterion snip --hidden 32 --epochs 5 --out "$o.$design.h5"
    done
    run 0 7 random sweep --device $device --model $model --data $data --tasks copa,winogrande --wikitext "$out/text.raw" --limit 2 --mask none,static,contextual \
        --scores "$out/aggregates.h5" --predictor "$out/cpu.shadow.h5" --criterion snip --sparsity 40 --refresh 8 --out "$o.csv" --details "$o.jsonl"
    n=0
    for how in "static" "contextual" "contextual --scope local" "contextual --scope hybrid --predictor-weights fp16" "contextual --predictor $out/cpu.sequence.h5"; do
        run 1 fwd lazy generate --device $device --model $model --prompt "The cake was burned because" --tokens 5 --scores "$out/aggregates.h5" \
            --predictor "$out/cpu.shadow.h5" --criterion snip --sparsity 40 --refresh 2 --mask $how
        grep -v MiB "$out/log" >"$o.$((n += 1)).txt"
    done
done
for n in 1 2 3 4 5; do cmp "$out/cpu.$n.txt" "$out/cuda.$n.txt" && [ -s "$out/cpu.$n.txt" ] || fail "generate continues differently: $n"; done
# the scores of the device go through the rest of the chain too
run 0 fwd eager aggregate --store "$out/cuda.h5" --out "$out/cuda_aggregates.h5"
CU_FAKE_LOG=1 run 1 fwd lazy train --device cuda --store "$out/cuda.h5" --model $model --criterion snip --hidden 32 --epochs 5 --out "$out/chain.h5"
# the rows of every batch go up on streams that compute nothing: inputs and targets, of both kinds of units, of 5 epochs
awk '/ (copy|kernel) on stream / { if ($2 == "kernel") computes[$5] = 1; else copies[$5]++ } END { for (s in copies) if (!(s in computes)) n += copies[s]; exit n < 20 }' "$out/log" ||
    fail "batches are uploaded on the stream that computes"
run 0 fwd lazy sweep --device cuda --model $model --wikitext "$out/text.raw" --mask contextual --predictor "$out/chain.h5" --criterion snip --sparsity 40 --refresh 8 --out "$out/chain.csv"

$python - "$out" <<'PY' || fail "the devices differ"
import json, sys
import h5py, numpy as np
out, bad, flips, units = sys.argv[1], 0, 0, 0
def wrong(*what):
    global bad
    bad += 1
    print("FAIL:", *what)
def each(f, found):
    f.visititems(lambda name, o: found.append(name) if isinstance(o, h5py.Dataset) else None)
    return found
with h5py.File(out + "/cpu.h5") as a, h5py.File(out + "/cuda.h5") as b:
    names = each(a, [])
    if names != each(b, []): wrong("the stores hold other datasets")
    flipped = a["scores/nwot/neurons"][:] != b["scores/nwot/neurons"][:]     # [N, L, F]
    flips, units = int(flipped.sum()), flipped.size
    hurt = flipped.any(-1)                                                   # layers of examples that hold one
    if flips > units / 10000: wrong(flips, "of", units, "neurons are active at another number of tokens")
    for name in names:
        x, y = a[name][:], b[name][:]
        if x.dtype.kind != "f":
            if not (x == y).all(): wrong(name, "differs")
            continue
        x, y = np.float64(x), np.float64(y)
        if not np.isfinite(y).all(): wrong(name, "is not finite")
        size = np.maximum(np.abs(x), np.sqrt((x ** 2).mean(-1, keepdims=True)) if x.ndim > 1 else 0)
        tol = 2e-3 if "grasp" in name else 2e-5 if name == "examples/loss" else 2e-4
        far = np.abs(x - y) > tol * size
        if x.shape == flipped.shape: far &= ~flipped
        if name.startswith("scores") and "nwot" in name and "neurons" not in name: far[hurt] = False
        if far.any(): wrong(name, "differs by", (np.abs(x - y) / size)[far].max())
        if not name.startswith("scores") or x.ndim != 3: continue
        for row, other, skip in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]), (flipped if x.shape == flipped.shape else np.zeros(x.shape, bool)).reshape(-1, x.shape[-1])):
            row, other = row[~skip], other[~skip]
            order = np.argsort(row, kind="stable")
            gap = np.diff(row[order]) > 2 * tol * np.maximum(np.abs(row[order][1:]), np.sqrt((row ** 2).mean()))
            if (np.diff(other[order])[gap] <= 0).any(): wrong(name, "ranks units otherwise")
for design in "shadow", "sequence":
    with h5py.File(f"{out}/cpu.{design}.h5") as a, h5py.File(f"{out}/cuda.{design}.h5") as b:
        for kind in "heads", "neurons":
            x, y = (f[f"predictors/snip/{kind}/loss"][:] for f in (a, b))
            if x.shape != (5, 2) or not (np.abs(x - y) <= 1e-4 * x).all(): wrong(design, kind, "losses", x, y)
            if (x[1:, 0] >= x[0, 0]).any(): wrong(design, kind, "does not learn", x)
read = lambda device: [json.loads(l) for l in open(f"{out}/{device}.jsonl")]
def values(o, path=""):
    if isinstance(o, dict):
        for k, v in o.items(): yield from values(v, path + "/" + k)
    elif isinstance(o, list):
        for i, v in enumerate(o): yield from values(v, f"{path}/{i}")
    else: yield path, o
one, two = read("cpu"), read("cuda")
if len(one) != len(two) or len(one) < 18: wrong("details have", len(one), "and", len(two), "lines")
for p, q in zip(one, two):
    for (k, v), (k2, v2) in zip(values(p), values(q)):
        if k != k2: wrong("details name", k, k2)
        elif "log_likelihood" in k:
            if not abs(v - v2) <= 1e-4 * abs(v): wrong("details", p["task"], k, v, v2)
        elif k != "/row" and v != v2: wrong("details", p["task"], k, v, v2)
rows = lambda device: [l.strip().split(",") for l in open(f"{out}/{device}.csv") if l[0] != "#"]
head, *one = rows("cpu")
_, *two = rows("cuda")
key, value = lambda r: [x for n, x in zip(head, r) if n not in ("value", "stderr", "code_hash")], head.index("value")
if len(one) < 30 or [key(r) for r in one] != [key(r) for r in two]: wrong("the sweeps have other rows", len(one), len(two))
for r, s in zip(one, two):
    if not abs(float(r[value]) - float(s[value])) <= (3e-4 * float(r[value]) if "perplexity" in r[head.index("metric")] else 0): wrong("sweep", r, s)
print(f"{len(names)} datasets, {flips} of {units} neurons on the other side of zero at some token; {len(one)} values of the sweep")
sys.exit(bad > 0)
PY
echo "test_cuda_chain: the chain on CUDA agrees with the CPU"
