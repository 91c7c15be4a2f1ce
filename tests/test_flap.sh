#!/bin/sh
# test_flap - flap and wanda as bin/score and bin/aggregate compute them, against numpy (tests/moments.py): pooled by
# task and over all, the same bits however a store came to be, refused where a score per example is needed; on CUDA run
# on the CPU.
set -u
BIN=${BIN:-build/opt/bin}
bin=$BIN python=/usr/bin/python3
. tests/needs.sh
needs_h5py
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
model=tests/golden/opt/pre
score() { out=$1; shift; "$bin/score" --model $model --data data/world --shots 0 --threads 2 --out "$tmp/$out" "$@" >"$tmp/log" 2>&1; }
must() { score "$@" || fail "$* : $(tail -n 1 "$tmp/log")"; }

must whole.h5 --tasks copa,rte --examples 4 --criteria wanda,flap
"$bin/aggregate" --store "$tmp/whole.h5" --out "$tmp/aggregates.h5" --csv "$tmp/csv" >"$tmp/log" 2>&1 || fail "aggregate: $(tail -n 1 "$tmp/log")"
$python tests/moments.py $model "$tmp/whole.h5" "$tmp/aggregates.h5" || exit 1
grep -q '^sound,all,flap,0,0,' "$tmp/csv/head_scores.csv" || fail "head_scores.csv lacks flap"

# a store of an earlier criterion gets what is new, by steps, and ends in the same bits
must grown.h5 --tasks copa --examples 2 --criteria wanda
must grown.h5 --tasks copa --examples 2 --criteria flap --batch-tokens 100
grep -q '^estimate: 2 of 2' "$tmp/log" || fail "moments of an old store: $(grep estimate "$tmp/log")"
must grown.h5 --tasks copa,rte --examples 3 --criteria wanda
must grown.h5 --tasks copa,rte --examples 4 --criteria wanda --threads 1
grep -q '^estimate: 2 of 8' "$tmp/log" || fail "extending computes what is there: $(grep estimate "$tmp/log")"
$python tests/h5same.py "$tmp/whole.h5" "$tmp/grown.h5" || fail "a store that grew has other moments"
must grown.h5 --tasks copa --examples 4 --criteria flap
grep -q 'nothing to compute' "$tmp/log" || fail "a finished store is computed again"
"$bin/aggregate" --store "$tmp/grown.h5" --out "$tmp/grown.h5" >"$tmp/log" 2>&1 || fail "aggregate in place: $(tail -n 1 "$tmp/log")"
$python tests/moments.py $model "$tmp/grown.h5" "$tmp/grown.h5" >/dev/null || fail "aggregates in the store itself"

# a global mask compares scores standardised within each layer; --raw-scores does not
for raw in "" --raw-scores; do
    "$bin/prune" --model $model --mask static --scores "$tmp/aggregates.h5" --criterion flap --sparsity 40 $raw --out "$tmp/small$raw" >"$tmp/log" 2>&1 ||
        fail "prune: $(tail -n 1 "$tmp/log")"
    $python - "$tmp/aggregates.h5" "$tmp/small$raw/mask.h5" "$raw" <<'END' || fail "the global mask of flap $raw"
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f, h5py.File(sys.argv[2]) as m:
    for kind in ("heads", "neurons"):
        s = f[f"aggregates/all/flap/{kind}"][1:]
        if not sys.argv[3]: s = (s - s.mean(1, keepdims=True)) / s.std(1, ddof=1, keepdims=True)
        keep = np.ones(s.size, int)
        keep[np.argsort(s.ravel(), kind="stable")[: 40 * s.size // 100]] = 0
        got = m[f"mask/{kind}"][1:].ravel()
        if (got != keep).any(): sys.exit(f"{kind}: {got} is not {keep}")
END
done
[ -n "$(cmp "$tmp/small/mask.h5" "$tmp/small--raw-scores/mask.h5")" ] || fail "standardising changes nothing"

# there is no score per example, and nothing published
score x.h5 --mode compat --criteria flap && fail "compat flap is not refused"
grep -q 'flap has no compat formulas' "$tmp/log" || fail "compat flap: $(tail -n 1 "$tmp/log")"
"$bin/train" --store "$tmp/whole.h5" --model $model --criterion flap --out "$tmp/p.h5" >"$tmp/log" 2>&1 && fail "a predictor of flap"
grep -q 'flap has no scores of examples' "$tmp/log" || fail "a predictor of flap is not refused by name: $(tail -n 1 "$tmp/log")"
"$bin/score" --list | grep -A 2 '^flap: ' | grep -q 'sound *neurons *Var' || fail "--list lacks the formulas of flap"

has_cuda "flap on CUDA" || exit 0
must cuda.h5 --tasks copa,rte --examples 4 --criteria wanda,flap --device cuda
"$bin/aggregate" --store "$tmp/cuda.h5" --out "$tmp/cuda.h5" >"$tmp/log" 2>&1 || fail "aggregate: $(tail -n 1 "$tmp/log")"
$python tests/moments.py $model "$tmp/cuda.h5" "$tmp/cuda.h5" || exit 1
