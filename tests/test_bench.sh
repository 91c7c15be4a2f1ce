#!/bin/sh
# test_bench - bin/bench from the outside: options, columns, the bytes of a token against a closed form, what is
# refused, the same masks at any thread count, reruns. No time is looked at.
program=bench
. tests/expect.sh
. tests/needs.sh
model=model/default data=data/world bench=$bin/bench
unset OMP_NUM_THREADS
export OMP_WAIT_POLICY=passive  # threads that wait do not take the time of others
tiny=3x4x32x96x61x50

expect 0 "usage: bench" --help
expect 2 "unknown option" --shap opt-125m
expect 2 "give --model DIR or --shape NAME" --mask none
expect 2 "give --model DIR or --shape NAME" --model x --shape opt-125m
expect 2 "not one of opt-125m, opt-350m" --shape opt-3b
expect 2 "hidden size 30 is no multiple of 4 heads" --shape 3x4x30x96x61x50
expect 2 "not one of fp32, fp16, bf16" --shape $tiny --weights int8
expect 2 "--tokens 0: outside 1..1048576" --shape $tiny --tokens 0
expect 1 "has 50 positions, and a prompt of 40 with 20 tokens needs 60" --shape $tiny --prompt 40 --tokens 20
expect 2 "--sparsity: sparsity 101: a percentage from 0 to 100" --shape $tiny --prompt 4 --tokens 4 --sparsity 101
expect 1 "not one of none, random, static" --shape $tiny --prompt 4 --tokens 4 --mask foo
expect 2 "not one of shadow, dejavu" --shape $tiny --prompt 4 --tokens 4 --mask contextual --design foo
expect 1 "needs a dense pass before its mask" --shape $tiny --prompt 4 --tokens 4 --mask contextual --design dejavu --scope global --refresh 2
expect 1 "random weights have no trained predictor" --shape $tiny --prompt 4 --tokens 4 --mask contextual --predictor x
expect 2 "--dense-layers 4: $tiny has 3 layers" --shape $tiny --prompt 4 --tokens 4 --dense-layers 4
expect 1 "needs --scores FILE" --model $model --prompt 4 --tokens 4 --mask static
expect 1 "x/config.json: " --model x
expect 2 "--wikitext needs --model DIR" --shape $tiny --wikitext x
expect 2 "--sequences 6: no multiple of --batch 4" --shape $tiny --sequences 6 --batch 2,4
expect 1 "--batch-masks union: with --refresh 1 every token makes a mask" --shape $tiny --prompt 4 --tokens 4 --mask contextual --refresh 1 --batch 2 --batch-masks own,union
# needs SHAPE LAYERS ARGUMENT... : a shape of OPT-66b's width is refused with the bytes of its fp32 weights
needs() {
    shape=$1 layers=$2
    shift 2
    expect 1 "needs" --shape "$shape" --mask none "$@"
    /usr/bin/python3 - "$tmp/e" "$shape" "$layers" <<'PY' || bad=1
import re, sys
text, shape, L = open(sys.argv[1]).read(), sys.argv[2], int(sys.argv[3])
E, F, V, P = 9216, 36864, 50272, 2048
weights = 4 * (V * E + (P + 2) * E + L * (4 * E * (E + 1) + 2 * E * F + F + E + 4 * E) + 2 * E)
m = re.search(shape + r" with fp32 weights needs (\d+) bytes of memory \(\S+ GB: weights (\S+),", text)
assert m, text
assert weights < int(m[1]) < 1.02 * weights, (weights, m[1])
assert m[2] == f"{weights / 1e9:.1f}", (weights, m[2])
PY
}
needs 12800x72x9216x36864x50272x2048 12800  # 50 TB: no machine has room for it

run() { "$bench" --shape $tiny --prompt 4 --tokens 6 --rounds 2 --mask none,random,static,contextual,oracle --sparsity 0,50 --hidden 8 --refresh 0,1,2 --kv compute,repair,skip "$@" >"$tmp/o" 2>"$tmp/e" || fail "bench $*: $(cat "$tmp/e")"; }
OMP_NUM_THREADS=1 run --out "$tmp/a.csv"
OMP_NUM_THREADS=2 run --out "$tmp/b.csv"
run --out "$tmp/h.csv" --weights fp16,bf16 --batch 3 --scope global --design shadow
run --out "$tmp/p.csv" --weights fp32 --predictor-weights bf16 --mask none,contextual --sparsity 50 --kv repair
run --out "$tmp/l.csv" --weights fp16 --batch 3 --scope global --design shadow --own-lists
for lists in "" --own-lists; do
    run --out "$tmp/u.csv" --batch 3 --sequences 6 --batch-masks own,union,auto --mask contextual,oracle --design shadow --sparsity 50 --refresh 0 --kv skip $lists
done
cp "$tmp/a.csv" "$tmp/before.csv"
OMP_NUM_THREADS=1 run --out "$tmp/a.csv"
cmp -s "$tmp/a.csv" "$tmp/before.csv" || fail "a rerun times again what has its rows"

/usr/bin/python3 - "$tmp" <<'PY' || bad=1
import csv, sys
tmp = sys.argv[1]
specified = ("mode model task split metric value stderr n mask criterion design target scope units sparsity dense_layers effective_heads effective_neurons aggregate mask_span "
             "refresh shots limit seed").split()
def rows(name):
    r = list(csv.DictReader(l for l in open(f"{tmp}/{name}") if not l.startswith("#")))
    assert list(r[0])[:len(specified)] == specified, list(r[0])
    return r
a, b = rows("a.csv"), rows("b.csv")
assert len(a) == 2 * (1 + 2 * 2 * 3 + 2 * 2 * 3 * 3 + 2 * 3), len(a)  # prompt and token of: dense; random, static; two designs at three refreshes; oracle
for x, y in zip(a, b):  # everything but times is the same at any thread count
    for k in x:
        assert x[k] == y[k] or k in "value p10 p90 mean amortised predict_ms select_ms bandwidth roofline threads".split(), (k, x[k], y[k])
L, H, E, F, V, P = 3, 4, 32, 96, 61, 50
D, prompt, tokens, hidden = E // H, 4, 6, 8
size = {"fp32": 4, "fp16": 2, "bf16": 2}
def want(r):
    """Weights, K/V and predictor bytes of a token, by counting."""
    wide, N = size[r["weights"]], int(r["batch"])
    s = float(r["sparsity"]) / 100
    kept = [(H, F)] + [(H - int(s * H), F - int(s * F))] * (L - 1)  # local scope after one dense layer
    assert all(s * u == int(s * u) for u in (H, F)), "the shares are whole, so that every layer loses as many"
    kv_all = r["kv"] in ("", "compute")
    weights = V * E + 2 * N * E + 2 * E  # vocabulary matrix; rows looked up; last norm
    kv = 0
    for h, f in kept:
        all_or = H if kv_all else h
        weights += 2 * (h * D * E + all_or * D * E) + h * D + 2 * all_or * D + f * (2 * E + 1) + 2 * E + 4 * E
        kv += 2 * 4 * h * D * (prompt + (tokens + 1) / 2)
    nets = L - 1 if r["design"] == "dejavu" else 1
    out = (H, F) if r["design"] == "dejavu" else (L * H, L * F)
    refresh = int(r["refresh"] or 0)
    predictor = size[r["predictor_weights"] or "fp32"] * nets * sum((hidden * (E + 1) + (hidden + 1) * o) for o in out) / refresh if refresh else 0
    return wide * weights, N * kv, N * predictor
for r in a:
    if r["metric"] != "token_ms": continue
    w, kv, p = want(r)
    assert float(r["weight_bytes"]) == w and float(r["kv_bytes"]) == kv and float(r["predictor_bytes"]) == p, (r, w, kv, p)
    if r["mask"] != "none":
        cut = float(r["sparsity"]) / 100 * 2 / 3
        assert abs(float(r["effective_heads"]) - cut) < 1e-12 and abs(float(r["effective_neurons"]) - cut) < 1e-12, r
for r in rows("h.csv"):  # three sequences read the dense model's weights once
    if r["metric"] == "token_ms" and r["mask"] == "none":
        w, kv, p = want(r)
        assert float(r["weight_bytes"]) == w and float(r["kv_bytes"]) == kv, (r, w, kv)
assert {r["weights"] for r in rows("h.csv")} == {"fp16", "bf16"}
assert all(r["predictor_weights"] == (r["weights"] if r["design"] else "") for r in a + rows("h.csv")), "predictors have the type of the model unless told otherwise"
for r in rows("p.csv"):
    assert r["predictor_weights"] == ("bf16" if r["design"] else ""), r
    assert r["metric"] != "token_ms" or float(r["predictor_bytes"]) == want(r)[2], r
union = {tuple(r[k] for k in ("metric", "mask", "sparsity", "refresh", "kv", "weights")): r for r in rows("h.csv")}
for r in rows("l.csv"):  # the same masks; bytes of oracle masks are those of the union
    u = union[tuple(r[k] for k in ("metric", "mask", "sparsity", "refresh", "kv", "weights"))]
    assert u["effective_neurons"] == r["effective_neurons"] and u["scores_hash"] == r["scores_hash"], (u, r)
# six sequences, three at a time: own masks lose half of all layers but the first, and their own lists read a sequence's units each; the union runs more of them, and is read once
of = {(r["mask"], r["lists"], r["batch_masks"]): r for r in rows("u.csv") if r["metric"] == "token_ms"}
assert len(of) == 12, list(of)
outer = V * E + 3 * 2 * E + 2 * E + L * (2 * E + 4 * E)
kept = H + (L - 1) * H / 2, F + (L - 1) * F / 2
head, neuron = 4 * D * E + 3 * D, 2 * E + 1
for mask in ("contextual", "oracle"):
    get = lambda lists, batch, k: float(of[mask, lists, batch][k])
    for lists, batch in ((a, b) for a in ("one", "own") for b in ("own", "union", "auto")):
        live_heads, live_neurons = ((1 - get(lists, batch, f"effective_{k}")) * L * u for k, u in (("heads", H), ("neurons", F)))
        assert live_heads >= kept[0] and live_neurons >= kept[1], (mask, lists, batch, live_heads, live_neurons)
        if batch == "own": assert abs(live_heads - kept[0]) < 1e-9 and abs(live_neurons - kept[1]) < 1e-9
        if batch == "union":  # read once by all three
            assert abs(get(lists, batch, "weight_bytes") - 4 * (outer + head * live_heads + neuron * live_neurons)) < 1, (mask, lists)
            assert abs(get(lists, batch, "kv_bytes") - 3 * 2 * 4 * live_heads * D * (prompt + (tokens + 1) / 2)) < 1
    assert get("own", "own", "weight_bytes") == 4 * (outer + 3 * (head * kept[0] + neuron * kept[1]))
    for k in ("weight_bytes", "effective_heads", "effective_neurons"): assert get("one", "union", k) == get("own", "union", k)
    assert get("one", "own", "weight_bytes") == get("one", "auto", "weight_bytes") == get("one", "union", "weight_bytes")
    assert get("one", "own", "kv_bytes") == get("one", "auto", "kv_bytes") < get("one", "union", "kv_bytes")
    assert get("one", "auto", "effective_neurons") == get("one", "union", "effective_neurons")
    bytes_of = lambda batch: get("own", batch, "weight_bytes") + get("own", batch, "kv_bytes")
    assert bytes_of("auto") <= min(bytes_of("own"), bytes_of("union"))
for r in a:
    for k in ("value", "p10", "p90"): assert float(r[k]) > 0, (k, r)
    assert float(r["p10"]) <= float(r["value"]) <= float(r["p90"]) and float(r["bandwidth"]) > 0 and float(r["roofline"]) >= 0, r
PY

# A real model: static masks of its scores, a trained predictor, removal as the oracle; and a predictor of another
# model.
"$bin"/score --model $model --data $data --tasks copa --shots 0 --examples 8 --criteria snip --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
"$bin"/train --store "$tmp/s.h5" --model $model --hidden 8 --epochs 1 --design shadow --out "$tmp/p.h5" >/dev/null 2>"$tmp/e" || fail "train: $(cat "$tmp/e")"
"$bin"/aggregate --store "$tmp/s.h5" --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "aggregate: $(cat "$tmp/e")"
real() { "$bench" --model $model --prompt 5 --tokens 4 --rounds 1 --units heads --mask none,static,contextual,oracle --scores "$tmp/s.h5" --criterion snip --predictor "$tmp/p.h5" --out "$tmp/r.csv" "$@" >"$tmp/o" 2>"$tmp/e" || fail "bench of $model: $(cat "$tmp/e")"; }
real
real --weights fp32
real --mode compat --mask random --scope global
/usr/bin/python3 - "$tmp" <<'PY' || bad=1
import csv, sys
r = list(csv.DictReader(l for l in open(sys.argv[1] + "/r.csv") if not l.startswith("#")))
assert len(r) == 8 + 8 + 2, len(r)
assert {x["criterion"] for x in r} == {"", "snip", "removal"} and {x["model"] for x in r} == {"default"}
assert len({x["model_hash"] for x in r}) == 1 and len(r[0]["model_hash"]) == 12
dense = {x["weights"]: float(x["weight_bytes"]) for x in r if x["mask"] == "none" and x["metric"] == "token_ms"}
assert len(dense) == 2 and dense["fp32"] == 2 * dense["fp16"], dense
PY

# The tokens of a text have a perplexity: dense, that of float64 numpy; under masks of their own, the same bits in any
# batch; under their union another one.
printf 'Anna watered the tomato plant every day and the man went to the market because he had no bread and Ben likes the sour taste of a lemon' >"$tmp/text"
"$bin"/tasks --model $model --encode - <"$tmp/text" >"$tmp/ids" || fail "tasks --encode"
for batch in 1 2 4; do
    expect 0 "perplexity" --model $model --wikitext "$tmp/text" --sequences 4 --batch $batch --prompt 3 --tokens 3 --rounds 1 --mask none,contextual --predictor "$tmp/p.h5" --units heads --out "$tmp/t.csv"
done
expect 0 "union of the masks" --model $model --wikitext "$tmp/text" --sequences 4 --batch 4 --prompt 3 --tokens 3 --rounds 1 --mask oracle --units heads --batch-masks own,union --out "$tmp/t.csv"
expect 1 "windows of 30 tokens, not 4; lower --sequences, --prompt or --tokens" --model $model --wikitext "$tmp/text" --sequences 4 --prompt 16 --tokens 13 --mask none
if /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    /usr/bin/python3 - $model "$tmp" <<'PY' || bad=1
import csv, json, sys
sys.path.insert(0, "tests")
import numpy as np
from numpy_opt import Opt
model, tmp = sys.argv[1:]
opt, first = Opt(model), json.load(open(model + "/config.json"))["bos_token_id"]
ids = [int(l.split()[0]) for l in open(tmp + "/ids")]
loss = []
for i in range(4):  # a window has </s> and six tokens: three are the prompt, the next is fed first, three are predicted
    window = np.array([first] + ids[6 * i : 6 * i + 6])
    lp = opt.log_probabilities(window)
    loss += [-lp[t - 1, window[t]] for t in (4, 5, 6)]
rows = [r for r in csv.DictReader(l for l in open(tmp + "/t.csv") if not l.startswith("#")) if r["metric"] == "decode_perplexity"]
assert len(rows) == 8 and all(r["n"] == "12" and r["sequences"] == "4" for r in rows), rows
means = np.array(loss).reshape(4, 3).mean(1)
want, error = np.exp(np.mean(loss)), np.exp(np.mean(loss)) * means.std(ddof=1) / 2
for r in rows:
    if r["mask"] != "none": continue
    assert abs(float(r["value"]) / want - 1) < 1e-4 and abs(float(r["stderr"]) / error - 1) < 5e-3, (r["value"], want, r["stderr"], error)
of = lambda mask: [r["value"] for r in rows if r["mask"] == mask]
assert len(of("none")) == len(of("contextual")) == 3 and len(set(of("none"))) == len(set(of("contextual"))) == 1, rows
assert len(set(of("oracle"))) == 2, of("oracle")  # own masks and their union
PY
else
    echo "no numpy: the perplexity of a text is not compared"
fi

# On a GPU, here CUDA on the CPU: its name is in the rows and above the table, the roof is its own memory's, and bytes
# and masks are those of the CPU. of a GGUF file the peer is llama.cpp: what it says and its seconds are taken as they
# are; a Python without it is named
cat >"$tmp/python" <<'SH'
#!/bin/sh
echo "$2 $3"
while read -r line; do echo "0.5 0.25"; done
SH
chmod +x "$tmp/python"
gguf=tests/golden/gguf/mixed.gguf
expect 0 "; --model $gguf" --model $gguf --mask none --prompt 4 --tokens 3 --rounds 1 --peer "$tmp/python" --out "$tmp/l.csv"
grep '"\?llama.cpp"\?,' "$tmp/l.csv" | cut -d, -f5,6 >"$tmp/times"
printf 'prefill_ms,500\ntoken_ms,250\n' | cmp -s - "$tmp/times" || fail "times of llama.cpp: $(cat "$tmp/times")"
printf '#!/bin/sh\nexit 1\n' >"$tmp/python"
expect 0 "no peer llama.cpp q8_0" --model $gguf --mask none --prompt 4 --tokens 3 --rounds 1 --peer "$tmp/python"
# predictors in blocks
expect 0 "shadow 32 q8_0 once" --shape $tiny --prompt 4 --tokens 3 --rounds 1 --mask contextual --design shadow --hidden 32 --predictor-weights q8_0 --out "$tmp/q.csv"
grep -q 'shadow.*,q8_0,' "$tmp/q.csv" || fail "the type of the predictor's weights is not in its rows"
if has_cuda "bench on a GPU"; then
    gpu() { CU_FAKE_DEVICES=2 CU_FAKE_PROTECT=0 "$bench" --shape $tiny --prompt 4 --tokens 3 --rounds 1 --mask none,static,contextual --hidden 8 --design shadow --out "$tmp/g.csv" --device "$1" >"$tmp/o" 2>"$tmp/e" || fail "bench on $1: $(cat "$tmp/e")"; }
    gpu cpu
    gpu cuda
    grep -q 'batch 1; cuda:0 CPU stand-in 0, graphs, [0-9]* threads' "$tmp/o" || fail "the GPU's name is not above the table: $(cat "$tmp/o")"
    grep -q '^none .* 67% of the steps are replayed graphs$' "$tmp/o" || fail "how many steps are replayed is not said: $(cat "$tmp/o")"
    gpu cuda:0,1
    /usr/bin/python3 - "$tmp" <<'PY' || bad=1
import csv, sys
r = list(csv.DictReader(l for l in open(sys.argv[1] + "/g.csv") if not l.startswith("#")))
names = ["cpu", "cuda:0 CPU stand-in 0, graphs", "cuda:0,1 CPU stand-in 0, graphs"]
of = [[x for x in r if x["device"] == n] for n in names]
assert len(r) == 18 and all(len(x) == 6 for x in of), [(x["device"], x["mask"]) for x in r]
for x in r: assert float(x["bandwidth"]) > 0 and float(x["roofline"]) >= 0, x
for i, x in enumerate(of[0]):
    for y in of[1:]:
        for k in "metric mask weight_bytes kv_bytes predictor_bytes effective_heads effective_neurons".split(): assert x[k] == y[i][k], (k, x, y[i])
        assert (x["scores_hash"] == y[i]["scores_hash"]) == (x["mask"] != "contextual"), (x, y[i])  # nets are drawn by another generator
PY
    CU_FAKE_MEM=80000000000 needs opt-66b 64 --device cuda
    CU_FAKE_MEM=300000000 expect 1 " bytes of memory (0.3 GB: weights 0.0, " --shape $tiny --prompt 4 --tokens 4 --device cuda
fi
expect 1 "of a model of 6 layers, 8 heads" --model tests/golden/opt/pre --prompt 2 --tokens 2 --mask contextual --predictor "$tmp/p.h5"
expect 1 "trained on sound scores" --model $model --prompt 2 --tokens 2 --mask contextual --predictor "$tmp/p.h5" --mode compat
exit $bad
