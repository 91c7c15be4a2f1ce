#!/bin/sh
# test_method - criteria/METHOD.md and the places that cite it: every section cited is there, in code, documents and the
# file itself, and nothing cites a specification that is not in the repository.
method=criteria/METHOD.md
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
absent=SEMANTI  # one letter short, so that this file is no hit
absent=${absent}CS

find . \( -path ./build -o -path ./bin -o -path ./.git -o -path ./results -o -path ./shared \) -prune -o -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.py' \
    -o -name '*.gp' -o -name '*.md' -o -name Makefile -o -name '*.mk' \) -print >"$tmp/files"
echo ./results/README.md >>"$tmp/files"
[ "$(wc -l <"$tmp/files")" -gt 200 ] || fail "only $(wc -l <"$tmp/files") files are looked at"
! xargs grep -n "$absent" <"$tmp/files" >"$tmp/old" || fail "cited, but not in the repository: $(cat "$tmp/old")"

sed -n 's/^##* \([0-9][0-9]*\(\.[0-9][0-9]*\)*\)\.* .*/\1/p' $method | sort -u >"$tmp/there"
# "METHOD 4.2", "METHOD 5, 6", "METHOD 3.1 to 3.4", "METHOD 3.1 and 3.4": a line for each section, after the place that
# cites it
xargs grep -noE 'METHOD [0-9]+(\.[0-9]+)?((, | and | to )[0-9]+(\.[0-9]+)?)*' <"$tmp/files" | awk '{
    place = $0; sub(/METHOD .*/, "", place); sub(/.*METHOD /, "", $0)
    n = split($0, part, /, | and | to /); for (i = 1; i <= n; i++) print part[i], place}' | sort >"$tmp/cited"
[ "$(wc -l <"$tmp/cited")" -gt 30 ] || fail "only $(wc -l <"$tmp/cited") citations are found"
join -v 1 "$tmp/cited" "$tmp/there" >"$tmp/unknown"
[ ! -s "$tmp/unknown" ] || fail "sections that $method has not: $(cat "$tmp/unknown")"

# within the file: "section 4.5"
tr '\n' ' ' <$method | grep -oE '[Ss]ection [0-9]+(\.[0-9]+)?' | sed 's/.* //' | sort -u >"$tmp/own"
[ "$(wc -l <"$tmp/own")" -gt 8 ] || fail "only $(wc -l <"$tmp/own") references within $method"
join -v 1 "$tmp/own" "$tmp/there" >"$tmp/unknown"
[ ! -s "$tmp/unknown" ] || fail "$method refers to sections that it has not: $(cat "$tmp/unknown")"

# sections are numbered one after the other
awk '/^## / {if (!match($2, /^[0-9]+\.$/) || $2 + 0 != ++top) {print; bad = 1} sub_n = 0; next}
    /^### / {if ($2 != top "." ++sub_n) {print; bad = 1}} END {exit bad}' $method >"$tmp/order" || fail "sections out of order: $(cat "$tmp/order")"
