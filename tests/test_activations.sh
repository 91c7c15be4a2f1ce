#!/bin/sh
# test_activations - programs with --activations: scores of 16-bit activations rank units as those of fp32 do, where
# what rounding changes is small beside what another input changes; on CUDA on the CPU they agree with the CPU's; stores
# and result files keep the kinds apart; sweep, generate, verify and bench run.
program=
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default data=data/world python=/usr/bin/python3
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2
run() { "$bin/$@" >"$tmp/o" 2>"$tmp/e" || fail "$*: $(tail -n 3 "$tmp/e")"; }
score() { kind=$1; shift; run score --model $model --data $data --tasks copa --shots 0 --criteria snip,fisher,plainact --activations "$kind" "$@"; }

expect 2 "not one of fp32|fp16|bf16" score --activations int8
for kind in fp32 fp16 bf16; do score $kind --examples 4 --out "$tmp/$kind.h5"; done
expect 1 "activations is bf16 there, fp32 here" score --model $model --data $data --tasks copa --shots 0 --criteria snip,fisher,plainact --examples 5 --out "$tmp/bf16.h5"
expect 1 "activations is fp32 there, fp16 here" score --model $model --data $data --tasks copa --shots 0 --criteria snip,fisher,plainact --activations fp16 --examples 5 --out "$tmp/fp32.h5"
score bf16 --examples 5 --out "$tmp/bf16.h5"
$python - "$tmp" <<'PY' || bad=1
import h5py, numpy as np, sys
tmp = sys.argv[1]
def rank(a): return np.argsort(np.argsort(a))
def rho(a, b): return np.corrcoef(rank(a), rank(b))[0, 1]
f = {k: h5py.File(f"{tmp}/{k}.h5", "r") for k in ("fp32", "fp16", "bf16")}
for name in ("snip", "fisher", "plainact"):
    for units in ("heads", "neurons"):
        s = {k: np.asarray(f[k][f"scores/{name}/{units}"], dtype=float)[:4].reshape(4, -1) for k in f}
        other = np.mean([1 - rho(s["fp32"][i], s["fp32"][j]) for i in range(4) for j in range(i)])
        for kind, share in (("fp16", 0.01), ("bf16", 0.1)):  # 11 and 8 significant bits: a factor of 8, of 64 where errors are squared
            lost = np.mean([1 - rho(s["fp32"][i], s[kind][i]) for i in range(4)])
            print(name, units, kind, "1 - rho %.2g, of two inputs %.2g" % (lost, other))
            assert not np.array_equal(s["fp32"], s[kind]) and lost < share * other, (name, units, kind, lost, other)
loss = {k: np.asarray(f[k]["examples/loss"])[:4] for k in f}
for kind, most in (("fp16", 2.0**-9), ("bf16", 2.0**-5)): assert np.all(np.abs(loss[kind] / loss["fp32"] - 1) < most), (kind, loss)
for k in f: f[k].close()
with h5py.File(f"{tmp}/fp32.h5", "r+") as h: del h.attrs["activations"]  # as stores were
PY
score fp32 --examples 5 --out "$tmp/fp32.h5"

for kind in fp32 fp16 bf16; do
    run sweep --model $model --data $data --tasks copa --limit 3 --mask none,random --sparsity 50 --activations $kind --out "$tmp/sweep.csv"
    run generate --model $model --prompt "Anna watered" --tokens 4 --activations $kind
    [ "$(wc -w <"$tmp/o")" -ge 4 ] || fail "generate with $kind: $(cat "$tmp/o")"
    run bench --shape 2x4x32x96x61x50 --prompt 4 --tokens 3 --rounds 1 --mask none,static --activations $kind --out "$tmp/bench.csv"
done
$python - "$tmp" <<'PY' || bad=1
import csv, sys
def rows(name): return list(csv.DictReader(l for l in open(f"{sys.argv[1]}/{name}.csv") if not l.startswith("#")))
for name, model in (("sweep", "default"), ("bench", "2x4x32x96x61x50")):
    of = [sum(x["model"] == model + t for x in rows(name)) for t in ("", ", fp16 activations", ", bf16 activations")]
    assert of[0] > 3 and of[0] == of[1] == of[2], (name, of)
assert {x["weights"] for x in rows("bench")} == {"fp32", "fp16", "bf16"}
PY
# 8-bit numbers, where weights are in blocks; not for scores
expect 2 "rounding to 8 bits has none" score --model $model --data $data --tasks copa --activations q8_0 --out "$tmp/q8_0.h5"
expect 1 "no matrix is in blocks" sweep --model $model --data $data --tasks copa --mask none --activations q8_0
run sweep --model $model --wikitext $data/wikitext/held-out.raw --page-words 60 --limit 2 --mask none,random --sparsity 50 --weights q8_0 --out "$tmp/sweep.csv"
run sweep --model $model --wikitext $data/wikitext/held-out.raw --page-words 60 --limit 2 --mask none,random --sparsity 50 --weights q8_0 --activations q8_0 --out "$tmp/sweep.csv"
run bench --shape 2x4x32x96x61x50 --prompt 9 --tokens 3 --rounds 1 --mask none,static --weights q8_0 --activations q8_0 --out "$tmp/bench.csv"
run verify --model $model --mask random --text $data/wikitext/held-out.raw --inputs 1 --weights q8_0 --activations q8_0
grep -q "everything holds" "$tmp/o" || fail "verify with q8_0: $(grep FAIL "$tmp/o")"
$python - "$tmp" <<'PY' || bad=1
import csv, re, sys
tmp = sys.argv[1]
def rows(name): return [r for r in csv.DictReader(l for l in open(f"{tmp}/{name}.csv") if not l.startswith("#")) if r["weights" if name == "bench" else "model"].find("q8_0") >= 0]
models = sorted({r["model"] for r in rows("sweep")})
assert models == ["default, weights q8_0", "default, weights q8_0, q8_0 activations"], models
assert {r["model"] for r in rows("bench")} == {"2x4x32x96x61x50, q8_0 activations"}
value = {m: {(r["mask"], r["task"], r["metric"]): float(r["value"]) for r in rows("sweep") if r["model"] == m} for m in models}
assert value[models[0]].keys() == value[models[1]].keys() and len(value[models[0]]) > 3
for k, v in value[models[0]].items():
    assert 0 < abs(value[models[1]][k] - v) < 0.03 * v, (k, v, value[models[1]][k])
error = float(re.search(r"weights q8_0, activations q8_0, against .* logits off by ([0-9.e-]+)", open(f"{tmp}/o").read())[1])
assert 1e-4 < error < 0.03, error
PY
expect 2 "leave --weights out" bench --shape 2x4x32x96x61x50 --activations bf16 --weights fp32
for kind in fp16 bf16; do
    run verify --model $model --mask random --text $data/wikitext/held-out.raw --inputs 1 --activations $kind
    grep -q "everything holds" "$tmp/o" || fail "verify with $kind: $(grep FAIL "$tmp/o")"
done

has_cuda "activations on a GPU" || exit $bad
export CU_FAKE_PROTECT=0
mkdir -p "$tmp/data/copa"
for i in 0 1 2; do
    echo "{\"premise\": \"The cat $i ran.\", \"choice1\": \"It ate.\", \"choice2\": \"It hid then.\", \"question\": \"cause\", \"label\": $((i % 2)), \"idx\": $i}"
done >"$tmp/data/copa/train.jsonl"
for kind in fp32 fp16 bf16; do
    for device in cpu cuda; do
        run score --model tests/golden/opt/pre --data "$tmp/data" --tasks copa --shots 0 --criteria snip,fisher,plainact,grasp --mode both --examples 2 --device $device --activations $kind --out "$tmp/$kind.$device.h5"
    done
done
for kind in fp16 bf16; do  # products over live units beside those of all, token by token
    run verify --device cuda --model tests/golden/opt/pre --mask random --text $data/wikitext/held-out.raw --inputs 1 --context 6 --steps 3 --activations $kind
    grep -q "everything holds" "$tmp/o" || fail "verify with $kind on a GPU: $(grep FAIL "$tmp/o")"
done
$python - "$tmp" <<'PY' || bad=1
import h5py, numpy as np, sys
tmp = sys.argv[1]
def load(name):
    out = {}
    with h5py.File(f"{tmp}/{name}.h5") as h: h.visititems(lambda n, o: out.__setitem__(n, np.asarray(o, dtype=float)) if isinstance(o, h5py.Dataset) and n.startswith("scores") else None)
    return out
def far(a, b): return np.sqrt(np.mean((a - b) ** 2) / np.mean(b ** 2))
for kind in ("fp16", "bf16"):
    cpu, gpu, exact = load(kind + ".cpu"), load(kind + ".cuda"), load("fp32.cpu")
    for n in exact:  # rounding to one of two neighbours now and then: the devices are no farther apart than rounding is from fp32
        assert far(gpu[n], cpu[n]) <= far(cpu[n], exact[n]) and far(gpu[n], exact[n]) <= 2 * far(cpu[n], exact[n]), (kind, n, far(gpu[n], cpu[n]), far(cpu[n], exact[n]), far(gpu[n], exact[n]))
PY
exit $bad
