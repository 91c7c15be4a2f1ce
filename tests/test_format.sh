#!/bin/sh
# test_format - sources are as .clang-format says (skipped where clang-format 14, which Debian 12 has, is not at hand),
# no line is longer than 120 columns, no ?: stands inside another, and no include runs upward through the layers of the
# folders. Scripts of Python and of the shell are at least such.
cd "$(dirname "$0")/.." || exit 1
fail() { echo "FAIL: $*"; exit 1; }
sources=$(find model criteria data predictor experiments tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cpp')
long=$(awk 'length > 120 {print FILENAME ":" FNR}' $sources)
[ -z "$long" ] || fail "lines of more than 120 columns: $long"

for script in $(find criteria data predictor experiments tests -name '*.sh'); do sh -n "$script" || fail "$script"; done
if command -v python3 >/dev/null; then  # parsed, not run, and nothing is written beside them
    find criteria data predictor experiments tests -name '*.py' -exec python3 -c '
import ast, sys
for name in sys.argv[1:]: ast.parse(open(name, encoding="utf8").read(), name)' {} + || fail "a script that is no Python"
fi

# A ternary is open from its ? to the next comma, semicolon or closing bracket of its own depth; another ? in there is
# nested.
nested=$(awk '
    FNR == 1 {depth = open = 0}
    {gsub(/"(\\.|[^"\\])*"|\047(\\.|[^\047\\])*\047|\/\/.*/, "")
     while (match($0, /[][(){},;?]/)) {
         c = substr($0, RSTART, 1); $0 = substr($0, RSTART + 1)
         if (index("([{", c)) saved[++depth] = open
         else if (index(")]}", c)) open = depth ? saved[depth--] : 0
         else if (c != "?") open = depth ? saved[depth] : 0
         else if (open++) print FILENAME ":" FNR
     }}' $(echo "$sources" | tr ' ' '\n' | grep -v '\.cpp$'))
[ -z "$nested" ] || fail "a ?: inside another; use if, a small function or an array: $nested"

# A file may include what is of its own layer or of one before it. One include is exempt: a checkpoint is read by the
# table of its family (arch.h), whose slots are places in a model, so the header stands with the model.
layers="model/base model/checkpoint model/ops model/ops/cpu model/ops/cuda model/transformer model/programs data criteria
    predictor experiments/masks experiments/evaluation experiments/sweep experiments/benchmarks experiments/analysis"
awk -v layers="$layers" '
    function folder(f) {sub(/\/[^\/]*$/, "", f); return f}
    BEGIN {n = split(layers, l, /[ \n]+/); for (i = 1; i <= n; i++) level[l[i]] = i
           for (i = 1; i < ARGC; i++) {f = ARGV[i]; name = f; sub(/.*\//, "", name); if (name ~ /\.h$/) home[name] = folder(f)}}
    !(folder(FILENAME) in level) {print FILENAME ": a folder of no layer"; bad = 1; nextfile}
    /^#include "/ {split($0, q, "\""); if (q[2] in home && level[home[q[2]]] > level[folder(FILENAME)] &&
        !(FILENAME ~ /^model\/checkpoint\/(ckpt|fused)\.c$/ && q[2] == "arch.h")) {print FILENAME ": includes " home[q[2]] "/" q[2]; bad = 1}}
    END {exit bad}' $(echo "$sources" | tr ' ' '\n' | grep -v '^tests/') || fail "includes run upward"

version=$(clang-format --version 2>/dev/null | sed 's/.*version \([0-9]*\).*/\1/')
[ "$version" = 14 ] || { echo "SKIP: clang-format 14 is not here; only lines and includes were looked at"; exit 0; }
clang-format --dry-run -Werror $sources 2>&1 | head -n 20 | grep . && fail "clang-format -i $(echo "$sources" | wc -w) sources"
echo ok
