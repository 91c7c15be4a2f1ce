#!/bin/sh
# test_llama - the programs on a small checkpoint of the Llama family (tests/golden/llama/llama: six query heads on two
# KV heads): scored, aggregated, trained on, swept under static and contextual masks, verified (thresholds too), timed,
# continued, pruned and described; compat is refused by name.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=tests/golden/llama/llama data=data/world
run score --model $model --data $data --tasks copa,rte --shots 0 --examples 8 --criteria all,flap,wanda --over-long cut --out "$tmp/s.h5"
run aggregate --store "$tmp/s.h5" --out "$tmp/s.h5"
/usr/bin/python3 - "$tmp/s.h5" <<'PY' || fail "the store"
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    n = len(f["examples/loss"])
    assert f["features/head_output"].shape == (n, 2, 36) and f["features/residual"].shape == (n, 2, 24)
    assert f["scores/snip/heads"].shape == (n, 2, 6) and f["scores/snip/neurons"].shape == (n, 2, 28)
    assert all(np.isfinite(f[f"scores/{c}/{k}"]).all() for c in ("grasp", "jacov", "nwot", "plainact") for k in ("heads", "neurons"))
PY
run train --store "$tmp/s.h5" --model $model --criterion snip --design shadow --epochs 3 --hidden 8 --out "$tmp/p.h5"
rule="--scores $tmp/s.h5 --criterion snip --scope global --units both"
run sweep --model $model --data $data --tasks copa --limit 3 --mask static $rule --sparsity 0,40 --out "$tmp/static.csv"
run sweep --model $model --data $data --tasks copa --limit 3 --mask contextual --predictor "$tmp/p.h5" --units both --sparsity 40 --out "$tmp/c.csv"
run sweep --model $model --data $data --tasks copa --limit 2 --mask oracle --units both --sparsity 40 --out "$tmp/o.csv"
expect 0 "everything holds" verify --model $model --mask static $rule --sparsity 50 --inputs 1 --context 12 --steps 3
expect 0 "everything holds" verify --model $model --mask static $rule --ablate mean --sparsity 50 --inputs 1 --context 12 --steps 3
for what in zero mean; do
    run sweep --model $model --data $data --tasks copa --limit 2 --mask static $rule --aggregate all --sparsity 50 --ablate $what --details "$tmp/$what.jsonl" --out "$tmp/$what.csv"
    grep -o 'log_likelihood":[-0-9.]*' "$tmp/$what.jsonl" >"$tmp/$what"
done
[ "$(wc -l <"$tmp/mean")" -eq 4 ] && ! cmp -s "$tmp/zero" "$tmp/mean" || fail "--ablate mean changes nothing"
head -c 3000 $data/wikitext/held-out.raw >"$tmp/text"
for by in gate product; do
    expect 0 "everything holds" verify --model $model --mask threshold:$by --calibrate "$tmp/text" --sparsity 50 --inputs 1 --context 12 --steps 3
done
expect 0 "everything holds" verify --model $model --mask contextual --predictor "$tmp/p.h5" --units both --sparsity 50 --inputs 1 --context 12 --steps 3
run bench --model $model --mask random --units both --sparsity 50 --prompt 8 --tokens 4
run prune --model $model $rule --sparsity 60 --out "$tmp/small"
expect 0 "of 28 a layer" info --model "$tmp/small"
for m in "--model $model --mask file:$tmp/small/mask.h5" "--model $tmp/small"; do
    "$bin/generate" $m --prompt "Anna watered the" --tokens 12 >"$tmp/g" 2>/dev/null || fail "generate $m"
    [ -f "$tmp/first" ] && { cmp -s "$tmp/g" "$tmp/first" || fail "the compacted model continues otherwise than the masked one"; }
    cp "$tmp/g" "$tmp/first"
done

# equal widths in every layer: an ordinary checkpoint
run prune --model $model --mask random --units neurons --scope local --local-counts floor --dense-layers 0 --sparsity 50 --out "$tmp/half"
expect 0 "gated FFN 14 (silu)" info --model "$tmp/half"
expect 0 "compacted     from $model" info --model "$tmp/half"
grep -q per_layer "$tmp/half/config.json" && fail "equal widths are listed layer by layer"
for m in "--model $model --mask file:$tmp/half/mask.h5" "--model $tmp/half"; do
    "$bin/generate" $m --prompt "Anna watered the" --tokens 12 >"$tmp/g" 2>/dev/null || fail "generate $m"
    [ -f "$tmp/again" ] && { cmp -s "$tmp/g" "$tmp/again" || fail "the halved model continues otherwise than the masked one"; }
    cp "$tmp/g" "$tmp/again"
done

# whole groups: the heads of a KV head are pruned together, in sweeps apart from those that are not, and K and V of the
# others go
expect 0 "everything holds" verify --model $model --mask static $rule --group-heads --sparsity 50 --inputs 1 --context 12 --steps 3
for flag in "" --group-heads ""; do
    run sweep --model $model --data $data --tasks copa --limit 2 --mask static $rule --units heads --dense-layers 0 --sparsity 50 $flag --details "$tmp/groups.jsonl" --out "$tmp/groups.csv"
done
grep -q "all of them present" "$tmp/log" || fail "rows of whole groups hide those of heads: $(cat "$tmp/log")"
python3 - "$tmp" <<'PY' || fail "rows of whole groups"
import csv, json, sys
rows = list(csv.DictReader(l for l in open(sys.argv[1] + "/groups.csv") if not l.startswith("#")))
by = {g: [r for r in rows if r["group_heads"] == g] for g in ("", "1")}
assert by[""] and len(by[""]) == len(by["1"]) and len(by[""]) + len(by["1"]) == len(rows), rows
assert {float(r["effective_heads"]) for r in rows} == {0.5}  # 6 of 12 heads, 2 of 4 groups
assert {json.loads(l)["group_heads"] for l in open(sys.argv[1] + "/groups.jsonl")} == {"", "1"}
PY
run prune --model $model $rule --scope local --local-counts floor --dense-layers 0 --group-heads --sparsity 50 --out "$tmp/grouped"
grep -q per_layer "$tmp/grouped/config.json" && fail "equal widths of whole groups are listed layer by layer"
grep -q '"num_key_value_heads": 1' "$tmp/grouped/config.json" || fail "a KV head that nobody reads is kept: $(cat "$tmp/grouped/config.json")"
run sweep --model $model --data $data --tasks copa --limit 3 --mask file:"$tmp/grouped/mask.h5" --details "$tmp/masked.jsonl" --out "$tmp/masked.csv"
run sweep --model "$tmp/grouped" --data $data --tasks copa --limit 3 --mask none --details "$tmp/compacted.jsonl" --out "$tmp/compacted.csv"
python3 - "$tmp" <<'PY' || fail "a model without groups of heads is not the masked one"
import json, sys
masked, compacted = ([c["log_likelihood"] for l in open(f"{sys.argv[1]}/{n}.jsonl") for c in json.loads(l)["candidates"]] for n in ("masked", "compacted"))
assert len(masked) == len(compacted) == 6 and all(abs(a - b) < 2e-5 * abs(a) for a, b in zip(masked, compacted)), (masked, compacted)
PY

compat="follows published code that has OPT models alone, and this one is llama"
expect 1 "$compat" score --model $model --data $data --mode both --out "$tmp/x.h5"
expect 1 "$compat" sweep --model $model --data $data --tasks copa --mode compat --mask none --out "$tmp/x.csv"
expect 1 "$compat" verify --model $model --mode compat --mask random --sparsity 50
expect 1 "$compat" prune --model $model --mode compat $rule --sparsity 60 --out "$tmp/other"
expect 1 "$compat" train --store "$tmp/s.h5" --model $model --criterion snip --mode compat --out "$tmp/x.h5"
exit $bad
