#!/bin/sh
# test_bench_score - that bench_score measures what it says, not how fast: every contender ends, parts of the time make a whole,
# and nothing stays in the scratch folder.
bin=${BIN:-build/opt/bin} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "FAIL: $*"; cat "$out/log"; exit 1; }
mkdir "$out/scratch"
timeout 1200 "$bin/bench_score" --shape 2x4x64x128x500x64 --tokens 32 --continuation 4 --criteria plainact --rounds 2 --batches 2 --peer "$out/none" --scratch "$out/scratch" >"$out/log" 2>&1 ||
    fail "exit $?"
grep -q '^no peer: ' "$out/log" || fail "a peer that is not there is not said"
/usr/bin/python3 - "$out/log" <<'PY' || fail "figures"
import re, sys
text = open(sys.argv[1]).read()
parts = dict((k, float(v)) for k, v in re.findall(r"(GEMM|attention|criteria|store|other) ([\d.]+) %", text))
assert len(parts) == 5 and abs(sum(parts.values()) - 100) < 0.5, parts
assert float(re.search(r"plainact +([\d.]+) tokens/s", text)[1]) > 0
PY
[ -z "$(ls "$out/scratch")" ] || fail "left behind: $(ls "$out/scratch")"
timeout 1200 "$bin/bench_score" --shape 2x4x64x128x500x64 --tokens 32 --continuation 4 --rounds 1 --batches 1 --peer none --scratch "$out/scratch" >"$out/log" 2>&1 || fail "all criteria: exit $?"
[ "$(grep -c 'tokens/s' "$out/log")" = 2 ] || fail "two contenders are wanted"
echo "all passed"
