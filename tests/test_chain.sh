#!/bin/sh
# test_chain - the main job on a small slice of the default model and its tasks: score, aggregate, sweep, plots, then
# the same again, which computes nothing. What the programs leave is read by h5py and Python: layouts, shapes, the dense
# accuracy against the details, figures that are pictures.
bin=${BIN:-build/opt/bin} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$out/log"; exit 1; }
python=/usr/bin/python3
. tests/needs.sh
needs_h5py

job() {
    "$bin/score" --model model/default --data data/world --tasks all --shots 1 --examples 3 --criteria all --mode both --out "$out/scores.h5" >"$out/log" 2>&1 || fail "score"
    "$bin/score" --model model/default --data data/world --tasks copa --shots 0 --examples 2 --criteria removal,snip --removal-neurons 0 --out "$out/removal.h5" >"$out/log" 2>&1 || fail "score, removal"
    "$bin/aggregate" --store "$out/removal.h5" --out "$out/removal.h5" >"$out/aggregate.log" 2>&1 || fail "aggregate, removal: $(cat "$out/aggregate.log")"
    "$bin/aggregate" --store "$out/scores.h5" --out "$out/aggregates.h5" --csv "$out" >"$out/aggregate.log" 2>&1 || fail "aggregate: $(tail -n 1 "$out/aggregate.log")"
    "$bin/sweep" --model model/default --data data/world --tasks all --wikitext data/world/wikitext/held-out.raw --limit 4 --mask none,random,static --scores "$out/aggregates.h5" \
        --criterion snip,l2_norm --units heads --sparsity 0,40 --token-perplexity none --out "$out/sweep.csv" --details "$out/details.jsonl" >"$out/log" 2>&1 || fail "sweep"
    "$bin/sweep" --model model/default --data data/world --tasks copa --limit 1 --mask oracle --units heads --sparsity 40 --out "$out/oracle.csv" >"$out/oracle.log" 2>&1 || fail "sweep, oracle"
    "$bin/generate" --model model/default --prompt "The" --tokens 8 --mask static --scores "$out/aggregates.h5" --criterion snip >"$out/text" 2>>"$out/log" || fail "generate"
}
job
cp "$out/sweep.csv" "$out/first.csv"
job
grep -q 'all of them present' "$out/log" || fail "the second sweep computes again"
cmp -s "$out/sweep.csv" "$out/first.csv" || fail "the second sweep changes the file"
[ -s "$out/text" ] || fail "generate prints nothing"

$python - "$out" "$bin" <<'PY' || fail "what the programs left is not as documented"
import csv, json, subprocess, sys
import h5py, numpy as np
out, program = sys.argv[1:]
L, H, E, F = (json.load(open("model/default/config.json"))[k] for k in ("num_hidden_layers", "num_attention_heads", "hidden_size", "ffn_dim"))
tasks = ["piqa", "copa", "openbookqa", "winogrande", "rte", "hellaswag", "arc_easy"]
listed = [l.split(":")[0] for l in subprocess.run([program + "/score", "--list"], capture_output=True, text=True).stdout.splitlines() if l[0] != " "]
with h5py.File(out + "/scores.h5") as f:
    n = 3 * len(tasks)
    ex = f["examples"]
    assert sorted(ex) == ["context_length", "id", "loss", "offset", "task", "tokens"] and list(f.attrs), sorted(ex)
    assert ex["tokens"].dtype == np.int32 and ex["offset"].dtype == np.int64 and len(ex["tokens"]) == ex["offset"][n]
    assert set(t.decode() for t in ex["task"][:]) == set(tasks)
    assert np.isfinite(ex["loss"][:]).all() and (ex["context_length"][:] < np.diff(ex["offset"][:])).all()
    for where in ("features", "features_compat"):
        assert {k: f[where][k].shape for k in f[where]} == {k: (n, L, E) for k in ("head_output", "residual", "residual_mid")}
    for where in ("scores", "scores_compat"):
        for c in listed:
            if c in ("epenas", "flap", "removal", "wanda") or (c == "jacov" and where == "scores_compat"):
                continue
            heads, neurons = f[where][c]["heads"][:], f[where][c]["neurons"][:]
            assert heads.shape == (n, L, H) and neurons.shape == (n, L, F), (c, heads.shape)
            assert np.isfinite(heads).all() and np.isfinite(neurons).all() and heads.std() > 0 and neurons.std() > 0, c
with h5py.File(out + "/removal.h5") as f:
    assert f["scores/removal/heads"].shape == (2, L, H) and f["aggregates/copa/removal/heads"].shape == (L, H) and "neurons" not in f["scores/removal"]
assert any(",copa,val,acc," in l and ",oracle,removal," in l for l in open(out + "/oracle.csv"))
with h5py.File(out + "/aggregates.h5") as f:
    for t in tasks + ["all"]:
        assert f[f"aggregates/{t}/snip/heads"].shape == (L, H) and f[f"aggregates_compat/{t}/snip/neurons"].shape == (L, F)
lines = open(out + "/sweep.csv").read().splitlines()
assert any(l.startswith("#") and "sweep" in l for l in lines)
rows = list(csv.DictReader(l for l in lines if not l.startswith("#")))
key = [(r["task"], r["metric"], r["mask"], r["criterion"], r["sparsity"]) for r in rows]
assert len(set(key)) == len(key)
for mask, criterion, at in [("none", "", "0"), ("random", "", "40")] + [("static", c, "40") for c in ("snip", "l2_norm")]:
    for t in tasks + ["mean"]:
        assert (t, "acc", mask, criterion, at) in key, (t, mask, criterion, at)
    assert ("wikitext", "word_perplexity", mask, criterion, at) in key, (mask, criterion)
assert all(np.isfinite(float(r["value"])) for r in rows)
k = int(40 * (L - 1) * H / 100) / (L * H)
assert all(abs(float(r["effective_heads"]) - k) < 1e-5 and float(r["effective_neurons"]) == 0 for r in rows if r["mask"] == "static" and r["sparsity"] == "40")
right = {}
for d in map(json.loads, open(out + "/details.jsonl")):
    if d["mask"] == "none" and d["task"] != "wikitext":
        right.setdefault(d["task"], []).append(d["prediction"] == d["gold"])
for r in rows:
    if r["mask"] == "none" and r["metric"] == "acc" and r["task"] != "mean":
        assert len(right[r["task"]]) == 4 and abs(np.mean(right[r["task"]]) - float(r["value"])) < 1e-9, r
PY

command -v gnuplot >/dev/null || { echo "SKIP test_chain: no gnuplot, the figures were not drawn"; exit 0; }
env -u MAKEFLAGS make -s plots PLOT_IN="$out" >"$out/log" 2>&1 || fail "plots"
grep -v ' is left out$' "$out/log" >"$out/complaints" && fail "gnuplot complains: $(head -n 3 "$out/complaints")"  # not of results that other programs make
n=0
for figure in "$out"/plots/*.png; do
    [ "$(head -c 4 "$figure" | tail -c 3)" = PNG ] || fail "$figure is no PNG"
    grep -q '</svg>' "${figure%.png}.svg" || fail "${figure%.png}.svg is not whole"
    n=$((n + 1))
done
[ $n -ge 5 ] || fail "only $n figures"
echo "all passed"
