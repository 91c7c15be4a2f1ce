#!/bin/sh
# test_bench_score - that bench_score and bench_train measure what they say, not how fast: every contender ends, parts
# of the time make a whole, nothing stays in the scratch folder; the rows of --out hold the identities of their columns,
# are not measured twice, and are not written without the peer that was asked for.
bin=${BIN:-build/opt/bin} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "FAIL: $*"; cat "$out/log"; exit 1; }
mkdir "$out/scratch"
shape=2x4x64x128x500x64
timeout 1200 "$bin/bench_score" --shape $shape --tokens 32 --continuation 4 --criteria plainact --rounds 1 --batches 2 \
    --peer "$out/none" --scratch "$out/scratch" >"$out/log" 2>&1 || fail "exit $?"
grep -q '^no peer: ' "$out/log" || fail "a peer that is not there is not said"
/usr/bin/python3 - "$out/log" <<'PY' || fail "figures"
import re, sys
text = open(sys.argv[1]).read()
parts = dict((k, float(v)) for k, v in re.findall(r"(GEMM|attention|criteria|store|other) ([\d.]+) %", text))
assert len(parts) == 5 and abs(sum(parts.values()) - 100) < 0.5, parts
assert float(re.search(r"plainact +([\d.]+) tokens/s", text)[1]) > 0
PY
[ -z "$(ls "$out/scratch")" ] || fail "left behind: $(ls "$out/scratch")"

score() {
    "$bin/bench_score" --shape $shape --tokens 32 --continuation 4 --batch 2 --batches 1 --rounds 2 --threads 1 \
        --scratch "$out/scratch" --out "$out/score.csv" "$@" >"$out/log" 2>&1
}
train() {
    "$bin/bench_train" --shape $shape --tokens 16 --steps 2 --rounds 2 --threads 1 --out "$out/train.csv" "$@" >"$out/log" 2>&1
}
for program in score train; do
    $program --peer "$out/none" && fail "$program: no peer, and no failure"
    grep -q 'or none for a file without' "$out/log" || fail "$program: a peer that is not there is not said"
    [ ! -s "$out/$program.csv" ] || fail "$program: rows without the peer that was asked for"
    $program --peer none || fail "$program --out: exit $?"
    [ -z "$(ls "$out/scratch")" ] || fail "left behind: $(ls "$out/scratch")"
    cp "$out/$program.csv" "$out/before.csv"
    $program --peer none || fail "$program, again: exit $?"
    cmp -s "$out/$program.csv" "$out/before.csv" || fail "$program measures again what has its rows"
done
# On a GPU (CUDA on the CPU) each contender opens it for itself; the work is that of the CPU, where the weights are
# there.
gpu() {
    "$bin/bench_score" --device cuda --shape $shape --tokens 32 --continuation 4 --batch 2 --batches 1 --rounds 2 \
        --scratch "$out/scratch" "$@" >"$out/log" 2>&1
}
export KIT_CUDA="${KIT_CUDA:-$(dirname "$bin")/shim/libkit_cuda.so}"
gpu --model model/default && fail "weights of a checkpoint on a device, and no failure"
grep -q 'give --shape' "$out/log" || fail "a checkpoint on a device is not refused by name"
gpu --out "$out/gpu.csv" && fail "rows of a GPU, and no failure"
[ -e "$KIT_CUDA" ] && for types in "--weights fp32" "--weights fp16" "--weights bf16 --activations bf16"; do
    gpu $types || fail "--device cuda $types: exit $?"
    [ -z "$(ls "$out/scratch")" ] || fail "left behind: $(ls "$out/scratch")"
    /usr/bin/python3 - "$out" <<'PY' || fail "--device cuda $types: figures"
import csv, re, sys
text = open(f"{sys.argv[1]}/log").read()
rows = csv.DictReader(l for l in open(f"{sys.argv[1]}/score.csv") if l[0] != "#")
assert re.findall(r"([\d.e+]+) multiply-adds a batch", text) == [f"{float(r['multiply_adds']):.6g}" for r in rows], text
assert len(re.findall(r" [\d.]+ tokens/s, ", text)) == 2 and "peak of a layer's largest product" in text, text
PY
done
train --peer none --design shadow --hidden 7 || fail "bench_train with other nets: exit $?"
/usr/bin/python3 - "$out" <<'PY' || fail "rows"
import csv, sys
def rows(name):
    lines = open(f"{sys.argv[1]}/{name}.csv").read().splitlines()
    head = [l for l in lines if l[0] == "#"]
    assert all(any(l.startswith(f"# {what}: ") for l in head) for what in ("command", "code", "date", "machine")), head
    return list(csv.DictReader(l for l in lines if l[0] != "#"))
near = lambda a, b, tolerance: abs(a - b) <= tolerance * abs(b)
score, train = rows("score"), rows("train")
assert [r["contender"] for r in score] == ["own", "own"], score
assert ["grasp" in r["criteria"].split(",") for r in score] == [False, True], score
for r in score:
    texts = ("model", "contender", "criteria", "processor", "peer", "code", "peer_versions", "beside_peer")
    x = {k: float(v) for k, v in r.items() if k not in texts}
    assert near(x["tokens_per_second"] * x["batch_seconds"], 2 * 32, 1e-4), x
    assert 0 < x["slowest"] <= x["tokens_per_second"] <= x["fastest"], x
    assert abs(sum(x[k + "_share"] for k in ("gemm", "attention", "criteria", "store", "other")) - 1) < 5e-4, x
    assert abs(x["multiply_adds"] / x["batch_seconds"] / x["gemm_peak"] - x["of_gemm_peak"]) < 1e-4, x
    assert x["weight_bytes"] < x["peak_bytes"] < 1e9 and r["beside_peer"] == r["peer"] == "", r
L, H, E, F = 2, 4, 64, 128
outputs = {("shadow", "heads"): L * H, ("shadow", "neurons"): L * F, ("dejavu", "heads"): H, ("dejavu", "neurons"): F}
assert len(train) == 8 + 2 and [r["hidden"] for r in train[8:]] == ["7", "7"], train
for r in train:
    assert int(r["outputs"]) == outputs.get((r["design"], r["units"]), int(r["outputs"])) and int(r["inputs"]) == E, r
    assert 0 < float(r["slowest"]) <= float(r["examples_per_second"]) <= float(r["fastest"]), r
    assert r["ratio"] == r["peer"] == r["peer_examples_per_second"] == "", r
PY
echo "all passed"
