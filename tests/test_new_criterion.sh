#!/bin/sh
# test_new_criterion - the one file of criteria/README.md ("Add a criterion"), put into a copy of the tree, is all it
# takes: the copy builds, and the criterion is in score --list, in the store with the right values, in the aggregates,
# in a sweep, and in the properties that test_criteria checks.
bin=${BIN:-build/opt/bin} tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$tmp/log"; exit 1; }
. tests/needs.sh
needs_h5py
export OMP_NUM_THREADS=1
san=0
case $(readlink -f "$bin") in */san/*) san=1 variant=san ;; *) variant=opt ;; esac
tree=$tmp/tree
mkdir -p "$tree/build"
for item in *; do  # what is built comes along, so that only the new file, the list of criteria and the links are left to do
    case $item in build | bin | results) ;; *) cp -a "$item" "$tree" ;; esac
done
cp -a "build/$variant" "$tree/build/$variant"
sed -n '/^```c$/,/^```$/p' criteria/README.md | grep -v '^```' >"$tree/criteria/crit_peak.c"
grep -q 'const criterion crit_peak' "$tree/criteria/crit_peak.c" || fail "criteria/README.md has no example"
env -u MAKEFLAGS make -C "$tree" SAN=$san CUDA=0 all "build/$variant/tests/test_criteria" >"$tmp/log" 2>&1 || fail "the copy does not build"
grep -q 'crit_peak.c' "$tmp/log" || fail "the new file was not compiled"
[ "$(grep -c '^  CC ' "$tmp/log")" -le 4 ] || fail "more than the new file and what is made from the list of criteria was compiled"
cd "$tree" || exit 1
bin=build/$variant/bin
"$bin/score" --list | grep -q '^peak: largest absolute output' || fail "score --list does not show it"
"$bin/score" --model model/default --data data/world --tasks copa,rte --shots 0 --examples 3 --criteria all --mode both --out "$tmp/s.h5" >"$tmp/log" 2>&1 || fail "score"
"$bin/aggregate" --store "$tmp/s.h5" --out "$tmp/a.h5" >"$tmp/log" 2>&1 || fail "aggregate"
"$bin/sweep" --model model/default --data data/world --tasks copa --limit 3 --mask static --scores "$tmp/a.h5" --criterion peak,snip --sparsity 50 --out "$tmp/s.csv" >"$tmp/log" 2>&1 || fail "sweep"
[ "$(grep -c ',copa,val,acc.*,static,peak,' "$tmp/s.csv")" = 3 ] || fail "the sweep has no rows of it: $(cat "$tmp/s.csv")"
"build/$variant/tests/test_criteria" >"$tmp/log" 2>&1 || fail "test_criteria"
/usr/bin/python3 - "$tmp" <<'PY' || fail "its values are wrong"
import sys, h5py, numpy as np
s, a = h5py.File(sys.argv[1] + "/s.h5"), h5py.File(sys.argv[1] + "/a.h5")
peak, norm = (s[f"scores/{c}/heads"][:].astype(float) for c in ("peak", "l2_norm"))  # max |a| and sqrt sum a^2 of the same values
tokens = np.diff(s["examples/offset"][:])[:, None, None]
assert peak.shape == norm.shape and (peak > 0).all() and (peak <= norm * (1 + 1e-6)).all()
assert (norm <= peak * np.sqrt(tokens * s["features/head_output"].shape[2] / peak.shape[2]) * (1 + 1e-6)).all()
assert np.array_equal(s["scores/peak/neurons"][:], s["scores_compat/peak/neurons"][:])
mean = a["aggregates/copa/peak/heads"][:]
assert np.allclose(mean, peak[[t == b"copa" for t in s["examples/task"][:]]].mean(0), rtol=1e-6)
PY
echo "all passed"
