#!/bin/sh
# test_threshold - threshold masks in bin/sweep: rows, the same masks by gate and product where nothing is gated,
# counted neurons, refusals.
. tests/expect.sh
model=tests/golden/opt/pre data=data/world
head -c 3000 $data/wikitext/held-out.raw >"$tmp/text"
run() { "$bin"/sweep --model $model --data $data --tasks copa --limit 4 --mask none,threshold:gate,threshold:product --calibrate "$tmp/text" --sparsity 20,70,95 \
        --scope local,global --out "$tmp/$1.csv" >/dev/null 2>"$tmp/e" || fail "sweep: $(cat "$tmp/e")"; }
run a
run a
grep -q "all of them present" "$tmp/e" || fail "a rerun computes again: $(cat "$tmp/e")"
python3 - "$tmp/a.csv" <<'END' || bad=1
import csv, sys
text = open(sys.argv[1]).read().splitlines()
note = [l for l in text if l.startswith("# calibration: ")]
assert len(note) == 1 and note[0].endswith(" tokens"), note
rows = list(csv.DictReader(l for l in text if not l.startswith("#")))
dense = {r["metric"]: float(r["value"]) for r in rows if r["mask"] == "none" and r["task"] == "copa"}
for by in ("gate", "product"):
    own = [r for r in rows if r["mask"] == f"threshold:{by}" and r["task"] == "copa" and r["metric"] == "acc"]
    assert [r["sparsity"] for r in own] == ["20", "70", "95"], own
    share = [float(r["effective_neurons"]) for r in own]
    # two of three layers are pruned; zeros are pruned at any sparsity, and other texts lie near the calibration's
    # quantiles
    assert share[0] > 0.2 * 2 / 3 and abs(share[1] - 0.7 * 2 / 3) < 0.1 and abs(share[2] - 0.95 * 2 / 3) < 0.05, share
    for r in own:
        assert r["units"] == "neurons" and r["scope"] == "local" and r["effective_heads"] == "0" and r["uses_label"] == "0", r
        assert int(r["calibration_tokens"]) > 100 and len(r["scores_hash"]) == 12 and r["mask_span"] == "all" and not r["local_counts"], r
value = lambda by: [(r["task"], r["metric"], r["sparsity"], r["value"], r["pruned_neurons"]) for r in rows if r["mask"] == f"threshold:{by}"]
assert value("gate") == value("product") and value("gate")
END
"$bin"/bench --model $model --mask none,threshold:gate,threshold:product --calibrate "$tmp/text" --sparsity 95 --prompt 8 --tokens 4 --rounds 1 --out "$tmp/b.csv" >"$tmp/o" 2>"$tmp/e" ||
    fail "bench: $(cat "$tmp/e")"
grep -q 'gate and product read all of it, and of fc2 the columns of these neurons' "$tmp/o" || fail "bench does not say what is read"
python3 - "$tmp/b.csv" <<'END' || bad=1
import csv, sys
rows = [r for r in csv.DictReader(l for l in open(sys.argv[1]) if not l.startswith("#")) if r["metric"] == "token_ms"]
dense, *own = rows
assert [r["mask"] for r in rows] == ["none", "threshold:gate", "threshold:product"], rows
for r in own:  # of 3 layers 32 columns of 24 numbers each, of which some are read
    saved = float(dense["weight_bytes"]) - float(r["weight_bytes"])
    assert 0.4 * 3 * 32 * 24 * 4 < saved < 3 * 32 * 24 * 4 and int(r["pruned_neurons"]) > 32 and int(r["calibration_tokens"]) > 100, r
END
expect 2 "--mask threshold needs --calibrate FILE" bench --model $model --mask threshold:gate
expect 2 "a shape has no tokenizer" bench --shape L=1,H=1,E=8 --mask threshold:gate --calibrate "$tmp/text"
expect 2 "--mask threshold needs --calibrate FILE" sweep --model $model --data $data --tasks copa --mask threshold:gate
expect 2 "not one of none, random, static, contextual, oracle, reference, threshold:gate|product, file:PATH" sweep --model $model --data $data --tasks copa --mask threshold:up
expect 2 "threshold:gate|product" sweep --model $model --data $data --tasks copa --mask threshold
expect 2 "which published masks never prune" sweep --model $model --data $data --tasks copa --mask threshold:gate --calibrate "$tmp/text" --mode compat
for of in "sweep --data $data --tasks copa" bench verify; do
    expect 2 "a neuron below its threshold puts out zero" $of --model $model --mask threshold:gate --calibrate "$tmp/text" --ablate mean --scores "$tmp/a.h5"
done
expect 1 "nothing.txt" sweep --model $model --data $data --tasks copa --mask threshold:gate --calibrate "$tmp/nothing.txt"
expect 0 "everything holds" verify --model $model --mask threshold:gate --calibrate "$tmp/text" --sparsity 90 --context 12 --steps 5 --inputs 3
grep -q 'counts  ok' "$tmp/o" || fail "verify does not say how many neurons run: $(cat "$tmp/o")"
exit $bad
