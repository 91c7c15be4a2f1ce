#!/bin/sh
# test_reference - masks of the examples' own scores: on documents those that bin/score stores for them, each given to
# the sweep as a mask file; rows say that they use the label; criteria without scores of examples are refused by name;
# verify.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default data=data/world
"$bin"/score --model $model --data $data --tasks copa --split val --shots 0 --examples 3 --seed 5 --criteria snip,wanda --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
sweep() { "$bin"/sweep --model $model --data $data --tasks copa --split val --limit 3 --seed 5 --scope global --sparsity 60 "$@" >/dev/null 2>"$tmp/e" || fail "sweep $*: $(cat "$tmp/e")"; }
for span in decode all; do
    sweep --mask reference --criterion snip,wanda --mask-span $span --out "$tmp/$span.csv" --details "$tmp/$span.jsonl"
    for c in snip wanda; do for i in 0 1 2; do
        /usr/bin/python3 - "$tmp/s.h5" $c $i "$tmp/m.h5" <<'END'
import sys, h5py, numpy as np
store, criterion, row, out = sys.argv[1:]
with h5py.File(store) as s, h5py.File(out, "w") as m:
    for kind in ("heads", "neurons"):
        x = s[f"scores/{criterion}/{kind}"][int(row)].astype(np.float64)
        keep, rest = np.ones(x.shape, np.uint8), x[1:].size
        flat = keep[1:].reshape(-1)
        flat[np.argsort(x[1:].ravel(), kind="stable")[: 60 * rest // 100]] = 0
        m[f"mask/{kind}"] = keep
END
        sweep --mask "file:$tmp/m.h5" --mask-span $span --out "$tmp/f.csv" --details "$tmp/file.$span.$c.$i.jsonl"
        rm -f "$tmp/f.csv"
    done; done
done
/usr/bin/python3 - "$tmp" <<'END' || bad=1
import csv, json, sys
tmp = sys.argv[1]
lines = lambda name: [json.loads(l) for l in open(f"{tmp}/{name}.jsonl")]
for span in ("decode", "all"):
    for c in ("snip", "wanda"):
        own = [l for l in lines(span) if l["criterion"] == c]
        assert len(own) == 3
        for i, line in enumerate(own):
            want = lines(f"file.{span}.{c}.{i}")[i]
            assert want["id"] == line["id"]
            for a, b in zip(line["candidates"], want["candidates"]):
                assert abs(a["log_likelihood"] - b["log_likelihood"]) <= 2e-4 * abs(b["log_likelihood"]), (span, c, i, a, b)
    rows = list(csv.DictReader(l for l in open(f"{tmp}/{span}.csv") if not l.startswith("#")))
    assert {(r["mask"], r["uses_label"], r["mask_span"], r["criterion"]) for r in rows} == {("reference", "1", span, c) for c in ("snip", "wanda")}, rows
    for r in rows: assert abs(float(r["effective_heads"]) - 24 / 48) < 1e-9 and abs(float(r["effective_neurons"]) - 3072 / 6144) < 1e-9, r
END
head -c 2000 $data/wikitext/held-out.raw >"$tmp/text"
"$bin"/sweep --model $model --wikitext "$tmp/text" --token-perplexity none --mask none,reference --criterion snip --sparsity 50 --refresh 32 --out "$tmp/t.csv" >/dev/null 2>"$tmp/e" || fail "text: $(cat "$tmp/e")"
grep -q ',reference,snip,.*,decode,32,' "$tmp/t.csv" || fail "text under reference masks: $(tail -n 1 "$tmp/t.csv")"
# the share of what the reference has over static masks: of the table's own effects, and only where the reference has
# something
"$bin"/aggregate --store "$tmp/s.h5" --out "$tmp/a.h5" >/dev/null 2>&1
"$bin"/sweep --model $model --data $data --tasks copa,rte --limit 30 --mask random,static,reference --mask-span decode --scores "$tmp/a.h5" --aggregate all --criterion snip --units heads \
    --sparsity 40,70 --allow-overlap --out "$tmp/r.csv" --details "$tmp/r.jsonl" >/dev/null 2>"$tmp/e" || fail "sweep: $(cat "$tmp/e")"
"$bin"/compare --details "$tmp/r.jsonl" --a mask=random --b mask=static --reference mask=reference --match mode,scope,units,sparsity,seed --out "$tmp/c.csv" >"$tmp/o" 2>"$tmp/e" || fail "compare: $(cat "$tmp/e")"
/usr/bin/python3 - "$tmp/c.csv" "$tmp/o" <<'END' || bad=1
import csv, sys
rows = [r for r in csv.DictReader(l for l in open(sys.argv[1]) if not l.startswith("#")) if r["level"] == "sparsity" and r["pairs"] != "0"]
at = {(r["claim"].split()[0], r["outcome"], r["sparsity"]): r for r in rows}
lines = open(sys.argv[2]).read().split("share of A over B in the reference over B")[1].splitlines()[1:]
assert len(lines) == 4, lines
numbers = 0
for line in lines:
    outcome, sparsity, _, share = line.split()
    a, of = at["mask=random", outcome, sparsity], at["mask=reference", outcome, sparsity]
    clear = of["low"] and (float(of["low"]) > 0 or float(of["high"]) < 0)
    numbers += bool(clear)
    assert share == "-" if not clear else abs(float(share) - float(a["effect"]) / float(of["effect"])) < 1e-3 * abs(float(share)), (line, a, of)
assert numbers, lines
END
expect 2 "--reference needs --a and --b" compare --details "$tmp/r.jsonl" --claims experiments/claims.json --reference mask=reference
if has_cuda "reference masks on CUDA"; then  # the same masks of documents and of text: the same log-likelihoods
    for device in cpu cuda; do
        "$bin"/sweep --model tests/golden/opt/pre --data $data --tasks copa --limit 3 --wikitext "$tmp/text" --token-perplexity none --mask reference --criterion snip,wanda --sparsity 60 --refresh 32 \
            --device $device --out "$tmp/on_$device.csv" --details "$tmp/on_$device.jsonl" >/dev/null 2>"$tmp/e" || fail "sweep --device $device: $(cat "$tmp/e")"
        grep -o 'log_likelihood": *[-0-9.]*' "$tmp/on_$device.jsonl" | sed 's/.*: *//' >"$tmp/$device"
    done
    paste "$tmp/cpu" "$tmp/cuda" | awk '!(($1 - $2) ^ 2 <= (2e-4 * $2) ^ 2) {bad = 1; print} END {exit bad || NR < 14}' || fail "reference masks on CUDA"
fi
for c in epenas flap; do
    expect 2 "--mask reference: $c has no scores of an example" sweep --model $model --data $data --tasks copa --mask reference --criterion $c
    expect 2 "--mask reference: $c has no scores of an example" verify --model $model --mask reference --criterion $c
done
expect 1 "not one of none, random, static, contextual, oracle, threshold:gate|product, file:PATH" bench --model $model --mask reference
expect 0 "everything holds" verify --model tests/golden/opt/pre --mask reference --criterion fisher --context 12 --steps 4 --inputs 2
exit $bad
