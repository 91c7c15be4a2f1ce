#!/bin/sh
# test_contextual - contextual sweeps and bin/compare from the outside, on the default model: what rows say, killed runs
# that go on, refusals, paired differences.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default data=data/world exec=

"$bin"/score --model $model --data $data --tasks piqa,copa,rte --shots 0 --examples 8 --criteria plainact,l2_norm --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
train() { "$bin"/train --store "$tmp/s.h5" --model $model --hidden 8 --epochs 3 "$@" >/dev/null 2>"$tmp/e" || fail "train: $(cat "$tmp/e")"; }
train --design shadow --target layer --seed 0 --out "$tmp/p0.h5"
train --design shadow --target layer --seed 1 --out "$tmp/p1.h5"
train --design dejavu --features ahead --criterion plainact --out "$tmp/d.h5"

run() { $exec "$bin"/sweep --model $model --data $data --tasks copa,winogrande --wikitext $data/wikitext/held-out.raw --token-perplexity none --limit 4 --mask none,random,contextual --mask-span decode \
        --predictor "$tmp/p0.h5,$tmp/d.h5" --scope local,global --sparsity 0,50 "$@"; }

run --out "$tmp/a.csv" --details "$tmp/a.jsonl" >/dev/null 2>"$tmp/e" || fail "the undisturbed run failed: $(cat "$tmp/e")"
cp "$tmp/a.csv" "$tmp/whole.csv"
run --out "$tmp/a.csv" --details "$tmp/a.jsonl" >/dev/null 2>"$tmp/e" || fail "the rerun failed"
grep -q "all of them present" "$tmp/e" || fail "a rerun computes again: $(cat "$tmp/e")"
cmp -s "$tmp/a.csv" "$tmp/whole.csv" || fail "a rerun changed the file"
for n in 1 2 3 4 5 6; do
    had=$(rows "$tmp/k.csv" 2>/dev/null | wc -l)
    exec=exec run --out "$tmp/k.csv" --details "$tmp/k.jsonl" >/dev/null 2>&1 &  # so that the kill meets the sweep, not a shell around it
    kill_at_work $! grown "$tmp/k.csv" "$had"
done
OMP_NUM_THREADS=2 run --out "$tmp/k.csv" --details "$tmp/k.jsonl" >/dev/null 2>&1 || fail "the resumed run failed"
rows "$tmp/a.csv" >"$tmp/1"
rows "$tmp/k.csv" >"$tmp/2"
cmp -s "$tmp/1" "$tmp/2" || fail "a killed and resumed sweep differs from an undisturbed one: $(diff "$tmp/1" "$tmp/2" | head -n 4)"
cmp -s "$tmp/a.jsonl" "$tmp/k.jsonl" || fail "details of a killed and resumed sweep differ"

"$bin"/compare --details "$tmp/a.jsonl" --a mask=contextual,design=shadow --b mask=random --match mode,scope,sparsity,seed,criterion --out "$tmp/c.csv" >"$tmp/o" 2>"$tmp/e" && fail "compare paired l2_norm with no criterion"
"$bin"/compare --details "$tmp/a.jsonl" --a mask=contextual,design=shadow,criterion=plainact --b mask=random --match mode,scope,sparsity,seed --out "$tmp/c.csv" >"$tmp/o" 2>"$tmp/e" || fail "compare: $(cat "$tmp/e")"
expect 1 'design is "shadow" and "dejavu"' compare --details "$tmp/a.jsonl" --a mask=random --b mask=contextual,criterion=plainact --match mode,scope,sparsity,seed
expect 1 "agree in none" compare --details "$tmp/a.jsonl" --a mask=oracle --b mask=random
expect 2 "unknown field colour" compare --details "$tmp/a.jsonl" --a colour=red --b mask=random
expect 2 "field=value is wanted" compare --details "$tmp/a.jsonl" --a mask --b mask=random
head -c 5000 "$tmp/a.jsonl" >"$tmp/torn.jsonl"
expect 1 "not whole" compare --details "$tmp/torn.jsonl" --a mask=none --b mask=random

/usr/bin/python3 - "$tmp" <<'PY' || bad=1
import csv, json, sys, numpy as np
tmp = sys.argv[1]
read = lambda path: list(csv.DictReader(l for l in open(path) if not l.startswith("#")))
rows = [r for r in read(tmp + "/a.csv") if r["mask"] == "contextual"]
assert {(r["design"], r["target"], r["lag"], r["criterion"]) for r in rows} == {("shadow", "layer", "", "plainact"), ("shadow", "layer", "", "l2_norm"), ("dejavu", "layer", "1", "plainact")}
for r in rows:
    assert r["mask_span"] == "decode" and len(r["scores_hash"]) == 12 and r["hidden"] == "8" and r["refresh"] == ("128" if r["task"] == "wikitext" else ""), r
    assert r["features"] == ("early" if r["design"] == "shadow" else "stream" if r["scope"] == "local" else "dense"), r
    if r["task"] != "wikitext":  # 5 of 6 layers prunable: 20 of 48 heads, 2,560 of 6,144 neurons
        half = 0 if r["sparsity"] == "0" else 20 / 48
        assert abs(float(r["effective_heads"]) - half) < 1e-5 and abs(float(r["effective_neurons"]) - half) < 1e-5, r
    elif r["sparsity"] == "50":
        assert 0 < float(r["effective_heads"]) < 20 / 48, r
none = {(r["task"], r["metric"]): r["value"] for r in read(tmp + "/a.csv") if r["mask"] == "none"}
for r in rows:
    if r["sparsity"] == "0":
        assert r["value"] == none[r["task"], r["metric"]], r
# paired differences; of four documents there is no interval
docs = {}
for line in open(tmp + "/a.jsonl"):
    d = json.loads(line)
    if d["sparsity"] != "50" or not (d["mask"] == "random" or (d["design"], d["criterion"]) == ("shadow", "plainact")):
        continue
    value = (d["log_likelihood"], d["words"]) if d["task"] == "wikitext" else (d["prediction"] == d["gold"], 1)
    docs.setdefault((d["mask"], d["scope"]), {}).setdefault(d["task"], []).append(value)
compared = read(tmp + "/c.csv")
assert all(r["low"] == "" and r["verdict"] in ("", "undecided", "not compared") for r in compared), compared
for scope in ("local", "global"):
    def mean(mask, task): return np.divide(*np.array(docs[mask, scope][task], float).sum(0))
    want = {"acc": np.mean([mean("contextual", t) - mean("random", t) for t in ("copa", "winogrande")]),
            "word_perplexity": np.exp(mean("random", "wikitext") - mean("contextual", "wikitext"))}
    for outcome, effect in want.items():
        r, = (r for r in compared if r["level"] == "pair" and r["outcome"] == outcome and f"scope={scope}" in r["pair"])
        assert abs(float(r["effect"]) - effect) < 1e-8 and r["documents"] == ("8" if outcome == "acc" else "4"), (r, effect)
PY

small="sweep --model $model --data $data --tasks copa --limit 2 --mask contextual --sparsity 50"
expect 2 "needs --predictor" sweep --model $model --data $data --tasks copa --mask contextual
expect 2 "act at every position" $small --predictor "$tmp/p0.h5" --mode compat --mask-span decode
expect 1 "trained on sound scores" $small --predictor "$tmp/p0.h5" --mode compat
expect 1 "no predictor of criterion fisher; there are: l2_norm plainact" $small --predictor "$tmp/p0.h5" --criterion fisher
expect 1 "not made by bin/train" $small --predictor "$tmp/s.h5"
expect 1 "--dense-layers 1 or more" $small --predictor "$tmp/d.h5" --dense-layers 0
# the published protocol: one mask for every position from the last one; per-layer nets read raw inputs where masks
# compare layers
"$bin"/score --model $model --data $data --tasks copa --shots 0 --examples 20 --criteria plainact --mode compat --out "$tmp/cs.h5" >/dev/null 2>"$tmp/e" || fail "score compat: $(cat "$tmp/e")"
for design in shadow dejavu; do
    "$bin"/train --store "$tmp/cs.h5" --model $model --mode compat --hidden 8 --epochs 2 --design $design --out "$tmp/c$design.h5" >/dev/null 2>"$tmp/e" || fail "train compat: $(cat "$tmp/e")"
done
"$bin"/$small --mode compat --criterion plainact --predictor "$tmp/cshadow.h5,$tmp/cdejavu.h5" --scope local,global,hybrid --out "$tmp/compat.csv" >/dev/null 2>"$tmp/e" || fail "compat: $(cat "$tmp/e")"
rows "$tmp/compat.csv" | awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) c[$i] = i; next} $c["task"] == "copa" && $c["metric"] == "acc" {print $c["design"], $c["scope"], $c["units"], $c["mask_span"], $c["features"]}' >"$tmp/1"
cat >"$tmp/2" <<END
shadow local heads all early
shadow global heads all early
shadow hybrid heads all early
dejavu local heads all dense
dejavu global heads all dense raw
dejavu hybrid heads all dense raw
END
cmp -s "$tmp/1" "$tmp/2" || fail "compat rows: $(diff "$tmp/1" "$tmp/2")"
"$bin"/$small --predictor "$tmp/p{seed}.h5" --criterion plainact --seed 0,1 --out "$tmp/seeds.csv" >/dev/null 2>"$tmp/e" || fail "{seed}: $(cat "$tmp/e")"
[ "$(rows "$tmp/seeds.csv" | awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == "scores_hash") c = i; next} !seen[$c]++ {n++} END {print n}')" -ge 2 ] || fail "{seed} took one predictor for two seeds"
cp -r $model "$tmp/other"
chmod -R u+w "$tmp/other"
printf '\001' | dd of="$tmp/other/model.safetensors" bs=1 seek=$(($(wc -c <"$tmp/other/model.safetensors") - 2)) conv=notrunc 2>/dev/null
expect 1 "of another model" sweep --model "$tmp/other" --data $data --tasks copa --limit 2 --mask contextual --sparsity 50 --predictor "$tmp/p0.h5"
exit $bad
