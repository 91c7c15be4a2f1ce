#!/bin/sh
# test_reference - masks of the examples' own scores: on documents those that bin/score stores for them, each given to the sweep as a mask file; rows say
# that they use the label; criteria without scores of examples are refused by name; verify.
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
for c in epenas flap; do
    expect 2 "--mask reference: $c has no scores of an example" sweep --model $model --data $data --tasks copa --mask reference --criterion $c
    expect 2 "--mask reference: $c has no scores of an example" verify --model $model --mask reference --criterion $c
done
expect 1 "not one of none, random, static, contextual, oracle, file:PATH" bench --model $model --mask reference
expect 0 "everything holds" verify --model tests/golden/opt/pre --mask reference --criterion fisher --context 12 --steps 4 --inputs 2
exit $bad
