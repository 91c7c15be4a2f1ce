#!/bin/sh
# test_tables - bin/tables on files made here, whose means, medians and ratios are known in closed form; and the
# committed documents against an independent reading of their CSV files. The scripts that call it are tested by
# test_table_runs.sh.
program=tables
. tests/expect.sh

cat >"$tmp/a.csv" <<'CSV'
# made by the test
kind,seed,value,other,"a ""name"", quoted"
x,0,1,10,"p, q"
x,1,2,20,r
x,2,4,40,s
# more of the same
x,3,9,90,"two
lines"
y,0,2,5,r
y,1,8,5,r
y,2,2,5,r
y,3,3,5,r
z,0,,,nothing
CSV

row_x='{"label": "r", "where": "kind=x"}'
# table FIELDS-OF-THE-MEASURE [ROW]: a specification of one table t with one cell
table() {
    cat >"$tmp/spec.json" <<JSON
{"csv": {"a": "$tmp/a.csv"}, "tables": {"t": {"csv": "a", "head": [""], "columns": [{"head": "c", $1}],
 "rows": [${2:-$row_x}]}}}
JSON
}
# cell WANTED FIELDS [ROW]: the one cell of that table
cell() {
    table "$2" "$3"
    "$bin/tables" --spec "$tmp/spec.json" --table t >"$tmp/o" 2>"$tmp/e"
    [ "$(sed -n '2s/^r *//p' "$tmp/o")" = "$1" ] || fail "$2: wanted $1, got: $(cat "$tmp/o" "$tmp/e")"
}
# no TEXT FIELDS [ROW]: that table is refused with TEXT
no() {
    table "$2" "$3"
    expect 1 "$1" --spec "$tmp/spec.json" --table t
}

# silent ARGUMENTS: exit 0 without a word
silent() {
    "$bin/tables" "$@" >"$tmp/o" 2>&1 && [ ! -s "$tmp/o" ] || fail "tables $*: $(cat "$tmp/o")"
}

cell 4.00 '"statistic": "mean", "format": "%.2f"'
cell 3.00 '"statistic": "median", "format": "%.2f"'
cell 1.0 '"statistic": "min", "format": "%.1f"'
cell 9.0 '"statistic": "max", "format": "%.1f"'
cell 4 '"statistic": "count", "format": "%.0f"'
cell 2.9130 '"statistic": "geomean", "format": "%.4f"'                                     # 72 to the power of 1/4
cell 4 '"where": "seed=2", "format": "%.0f"'
cell 400.0% '"where": "seed=2", "scale": 100, "format": "%.1f%%"'
cell '<p, q>' '"where": "seed=0", "value": "a \"name\", quoted", "statistic": "text", "format": "<%s>"'
cell 4 '"where": "a \"name\"\\, quoted=s", "format": "%.0f"'
# (22 + 44) / (13 + 7): the row's seeds replace the column's
cell 3.3 '"where": "seed=0|2", "statistic": "mean", "value": "value+other", "over": "kind=y", "relation": "ratio",
    "format": "%.1f"' '{"label": "r", "where": "kind=x,seed=2|1"}'
cell 1.0667 '"statistic": "mean", "relation": "ratio", "over": "kind=y", "format": "%.4f"' # 4 / 3.75
cell +6.7 '"statistic": "mean", "relation": "percent", "over": "kind=y", "format": "%+.1f"'
cell 0.25 '"statistic": "mean", "relation": "difference", "over": "kind=y", "format": "%.2f"'
# (1/2 + 2/8 + 4/2 + 9/3) / 4
cell 1.4375 '"statistic": "mean", "relation": "ratio", "over": "kind=y", "by": ["seed"], "format": "%.4f"'
cell 3 '"statistic": "max", "relation": "ratio", "over": "kind=y", "by": ["seed"], "format": "%.0f"'
cell 0.1 '"statistic": "mean", "relation": "ratio", "over_value": "other", "format": "%.1f"'
cell '1 (9)' '"parts": [{"statistic": "min", "format": "%.0f"}, {"statistic": "max", "format": " (%.0f)"}]'
# The row's condition replaces the column's, and instead the row's.
cell 8 '"where": "seed=0", "format": "%.0f"' '{"label": "r", "where": "kind=y,seed=1"}'
cell 1 '"instead": "seed=0", "format": "%.0f"' '{"label": "r", "where": "kind=x,seed=1"}'
cell 3.75 '"statistic": "mean", "format": "%.2f"' '{"label": "r", "where": "kind!=x|z"}'
cell '' '"where": "seed=7", "optional": true, "format": "%.0f"'
cell '' '"optional": true, "format": "%.0f"' '{"label": "r", "where": "kind=z"}'
cell 4 '"statistic": "mean", "across": ["seed"], "format": "%.0f"'
# Student's 95 % interval of 1, 2, 4, 9: 4 -+ 3.182446 * sqrt(38 / 3 / 4)
cell -1.6632 '"statistic": "low", "format": "%.4f"'
cell 9.6632 '"statistic": "high", "format": "%.4f"'
cell yes '"statistic": "mean", "scale": 10, "between": [40, 41, "yes", "no"]'
cell no '"statistic": "mean", "scale": 10, "between": [40.5, 41, "yes", "no"]'
cell '' '"where": "seed=1", "statistic": "low", "optional": true, "format": "%.0f"'

no 'no column nothing; there are kind, seed, value, other' '"value": "nothing", "statistic": "mean", "format": "%.0f"'
no 'no column of; there are' '"where": "of=x", "format": "%.0f"'
no 'no row with seed=7,kind=x' '"where": "seed=7", "format": "%.0f"'
no 'value is empty' '"format": "%.0f"' '{"label": "r", "where": "kind=z"}'
no 'value is empty' '"statistic": "text", "format": "(%s)"' '{"label": "r", "where": "kind=z"}'
no '4 rows where one is meant' '"format": "%.0f"'
no '4 rows with kind=x where one is meant' '"statistic": "text", "format": "%s"'
no 'unknown statistic average; there are one' '"statistic": "average", "format": "%.0f"'
no 'unknown relation times; there are ratio' '"statistic": "mean", "relation": "times", "over": "kind=y",
    "format": "%.0f"'
no 'relation and over' '"statistic": "mean", "over": "kind=y", "format": "%.0f"'
no 'geomean of 0' '"statistic": "geomean", "relation": "difference", "over": "seed=0|1|2|3", "by": ["seed"],
    "format": "%.0f"'
no '0 rows of over agree' '"statistic": "mean", "relation": "ratio", "over": "kind=y,seed=0", "by": ["seed"],
    "format": "%.0f"'
no 'differs in no field of across' '"statistic": "mean", "across": ["kind"], "format": "%.0f"'
no 'one conversion is wanted' '"statistic": "mean", "format": "%.0f %n"'
no 'one conversion is wanted' '"statistic": "mean", "format": "%s"'
no 'across: an array is wanted' '"statistic": "mean", "across": "seed", "format": "%.0f"'
no 'each: an array is wanted' '"each": "seed", "format": "%.0f"'
no 'format beside parts' '"parts": [{"statistic": "min", "format": "%.0f"}], "format": "%.0f"'
no 'is "p, q", not a finite number' '"where": "seed=0", "value": "a \"name\", quoted", "format": "%.0f"'
no 'field=value or field!=value is wanted' '"where": "seed", "format": "%.0f"'
no 'unpacked: sta' '"sta": "mean", "format": "%.0f"'
no 'row "r"' '"where": "seed=7", "format": "%.0f"'
no 'a row has 2 labels where head has 1' '"format": "%.0f"' '{"label": ["r", "s"], "where": "kind=x"}'
no 'no row with kind=w' '"format": "%.0f"' '{"label": "r", "where": "kind=w"}'

# Rows and columns for every combination; the second file has its numbers in another order.
cat >"$tmp/spec.json" <<JSON
{"csv": {"a": "$tmp/a.csv", "b": "$tmp/missing.csv"}, "tables": {
  "each": {"csv": "a", "where": "kind=x|y", "head": ["kind"],
           "columns": [{"head": "seed {seed}", "where": "seed!=3", "each": ["seed"], "ascending": true,
                        "format": "%.0f"}],
           "rows": [{"label": "of {kind}", "each": ["kind"]}, {"label": "none", "where": "kind=w", "optional": true}]},
  "missing": {"csv": "b", "head": [""], "columns": [{"head": "c", "format": "%.0f"}], "rows": [{"label": "r"}]}}}
JSON
printf 'kind,seed,value\ny,10,5\ny,9,6\nx,9,7\nx,10,8\n' >"$tmp/b.csv"
expect 0 'of x       1       2       4' --spec "$tmp/spec.json" --table each
expect 0 'of y       6        5' --spec "$tmp/spec.json" --table each --csv "a=$tmp/b.csv"
[ "$(cat "$tmp/o")" = "kind  seed 9  seed 10
of y       6        5
of x       7        8" ] || fail "combinations: $(cat "$tmp/o")"
expect 1 'missing.csv: cannot open' --spec "$tmp/spec.json" --table missing
expect 1 'tables: unable to open nowhere.json: No such file' --spec nowhere.json --table each
expect 1 'no table is named nothing' --spec "$tmp/spec.json" --table nothing
expect 1 'no CSV is named c' --spec "$tmp/spec.json" --table each --csv "c=$tmp/b.csv"
expect 1 'NAME=PATH is wanted' --spec "$tmp/spec.json" --table each --csv "$tmp/b.csv"
expect 2 'is wanted; see --help' --spec "$tmp/spec.json"
printf 'kind,seed,value\nx,"1,2\n' >"$tmp/bad.csv"
expect 1 'bad.csv:2: a quoted field has no closing quote' --spec "$tmp/spec.json" --table each --csv "a=$tmp/bad.csv"
printf '# c\nkind,seed,value\nx,1\n' >"$tmp/bad.csv"
expect 1 'bad.csv:3: 2 fields where the header has 3' --spec "$tmp/spec.json" --table each --csv "a=$tmp/bad.csv"
printf 'kind,seed,value\nx,"1\n2",3\ny,1\n' >"$tmp/bad.csv"
expect 1 'bad.csv:4: 2 fields where the header has 3' --spec "$tmp/spec.json" --table each --csv "a=$tmp/bad.csv"
printf '# only\n' >"$tmp/bad.csv"
expect 1 'bad.csv: no header line' --spec "$tmp/spec.json" --table each --csv "a=$tmp/bad.csv"

# Named measures, whose conditions come before those of the cell; rows of cells of their own; CSV files that are not
# there.
cat >"$tmp/own.json" <<JSON
{"csv": {"a": "{in}/a.csv", "b": "{in}/missing.csv"},
 "measures": {"sum": {"csv": "a", "where": "kind=x,seed=1", "value": "value+other", "format": "%.0f"},
              "gone": {"csv": "b", "format": "%.0f"}},
 "tables": {
  "own": {"csv": "a", "head": ["", "who"], "columns": [{"head": "c", "format": "%s"}, {"head": "d, e", "format": "%s"}],
          "rows": [{"label": ["r", "s"], "cells": [["is ", {"as": "sum"}, "!", {"as": "gone"}], {"as": "gone"}]},
                   {"label": ["t", "u"], "cells": ["text", {"as": "sum", "where": "seed=2"}]}]},
  "blank": {"csv": "a", "where": "kind=x", "optional": true, "head": [""],
            "columns": [{"head": "n", "statistic": "count", "format": "%.0f"}, {"head": "m", "as": "gone"}],
            "rows": [{"label": "one", "where": "seed=1"}]},
  "none": {"csv": "b", "head": [""], "columns": [{"head": "m", "as": "gone"}], "rows": [{"label": "one"}]}}}
JSON
expect 0 '"d, e"' --spec "$tmp/own.json" --in "$tmp" --table own --as csv
[ "$(cat "$tmp/o")" = ',who,c,"d, e"
r,s,is 22!,not run
t,u,text,44' ] || fail "cells: $(cat "$tmp/o")"
expect 0 '| r | s | is 22! | not run |' --spec "$tmp/own.json" --in "$tmp" --table own --as markdown
"$bin/tables" --spec "$tmp/own.json" --in "$tmp" --all "$tmp/all" 2>"$tmp/e" || fail "--all: $(cat "$tmp/e")"
[ "$(ls "$tmp/all" | tr '\n' ' ')" = "blank.csv own.csv " ] && [ "$(tail -n 1 "$tmp/all/blank.csv")" = one,1, ] ||
    fail "--all: $(ls "$tmp/all")"
[ "$(cat "$tmp/e")" = "none: not run: column \"m\": $tmp/missing.csv: cannot open: No such file or directory" ] ||
    fail "--all: $(cat "$tmp/e")"
sed -i 's/"as": "sum", "where"/"as": "product", "where"/' "$tmp/own.json"
expect 1 'no measure is named product' --spec "$tmp/own.json" --in "$tmp" --table own

# Rows of several files: header and # lines of the first once, rows as they stand.
printf '# b\nkind,seed,value\ny,0,"1"\nx,1,2\n' >"$tmp/c.csv"
expect 0 '# b' --select "$tmp/c.csv,$tmp/b.csv" --where 'kind=y,seed!=9'
[ "$(cat "$tmp/o")" = '# b
kind,seed,value
y,0,"1"
y,10,5' ] || fail "--select: $(cat "$tmp/o")"
"$bin/tables" --select "$tmp/a.csv" >"$tmp/o" && cmp -s "$tmp/o" "$tmp/a.csv" ||
    fail "--select without conditions changes a file"
expect 1 'a.csv: other columns than' --select "$tmp/b.csv,$tmp/a.csv" --out "$tmp/no.csv"
expect 1 'no column of' --select "$tmp/b.csv" --where of=x --out "$tmp/no.csv"
[ ! -e "$tmp/no.csv" ] || fail "what was not finished is left"

# Documents: tables between markers, numbers in sentences.
printf 'Text.\n\n<!-- table each -->\n| old |\n<!-- end of table -->\nSeed 2 is\n4.0 times  seed 0.\n' >"$tmp/d.md"
expect 1 'd.md:4: table each differs from its CSVs, which give "| kind | seed 0 |' --spec "$tmp/spec.json" \
    --document "$tmp/d.md" --check
silent --spec "$tmp/spec.json" --document "$tmp/d.md"
[ "$(cat "$tmp/d.md")" = 'Text.

<!-- table each -->
| kind | seed 0 | seed 1 | seed 2 |
|---|---|---|---|
| of x | 1 | 2 | 4 |
| of y | 2 | 8 | 2 |
<!-- end of table -->
Seed 2 is
4.0 times  seed 0.' ] || fail "document: $(cat "$tmp/d.md")"
silent --spec "$tmp/spec.json" --document "$tmp/d.md" --check
sed 's/| of y | 2 | 8 |/| of y | 2 | 9 |/' "$tmp/d.md" >"$tmp/changed.md"
expect 1 'changed.md:7: table each differs' --spec "$tmp/spec.json" --document "$tmp/d.md,$tmp/changed.md" --check
sed 's/^| of y .*/&\n&/' "$tmp/d.md" >"$tmp/changed.md"
expect 1 'changed.md:8: table each has lines' --spec "$tmp/spec.json" --document "$tmp/changed.md" --check
{ cat "$tmp/d.md"; printf '\000more\n'; } >"$tmp/changed.md" && cp "$tmp/changed.md" "$tmp/kept.md"
expect 1 'changed.md: byte ' --spec "$tmp/spec.json" --document "$tmp/changed.md"
cmp -s "$tmp/changed.md" "$tmp/kept.md" || fail "what follows a zero byte is lost"
grep -v 'end of table' "$tmp/d.md" >"$tmp/changed.md"
expect 1 'changed.md:3: table each has no <!-- end of table -->' --spec "$tmp/spec.json" --document "$tmp/changed.md"
grep -v '<!-- table' "$tmp/d.md" >"$tmp/changed.md"
expect 1 'without a table before it' --spec "$tmp/spec.json" --document "$tmp/changed.md"
sed 's/table each/table other/' "$tmp/d.md" >"$tmp/changed.md"
expect 1 'changed.md:3: ' --spec "$tmp/spec.json" --document "$tmp/changed.md"
grep -q 'no table is named other' "$tmp/e" || fail "unknown table: $(cat "$tmp/e")"
head='document,words,number,csv,where,value,statistic,across,relation,over,over_value,by,scale,format'
number() { printf '%s\n%s,%s,%s,a,"kind=x,seed=2",,,,ratio,seed=0,,,,%%.1f\n' "$head" "$1" "$2" "$3" >"$tmp/n.csv"; }
number "$tmp/d.md" 'is 4.0 times seed 0' 4.0
silent --spec "$tmp/spec.json" --numbers "$tmp/n.csv" --check
expect 0 'yes  4.0' --spec "$tmp/spec.json" --numbers "$tmp/n.csv"
number "$tmp/d.md" 'is 4.1 times seed 0' 4.1
expect 1 "n.csv:2: $tmp/d.md: \"is 4.1 times seed 0\" is not there" --spec "$tmp/spec.json" --numbers "$tmp/n.csv" \
    --check
sed 's/^4.0/4.1/' "$tmp/d.md" >"$tmp/changed.md"
number "$tmp/changed.md" 'is 4.1 times seed 0' 4.1
expect 1 'says 4.1 where the CSV gives 4.0' --spec "$tmp/spec.json" --numbers "$tmp/n.csv" --check
number "$tmp/d.md" 'is 4.0 times seed 0' 4.1
expect 1 'does not hold 4.1' --spec "$tmp/spec.json" --numbers "$tmp/n.csv" --check

# The committed document: it follows from its CSV files, a changed digit is found, and three tables agree with Python's
# reading of the CSV files.
silent --document README.md,results/README.md --numbers results/numbers.csv --check
sed '/<!-- table/,/<!-- end/s/^\(| [^|]* | [^|]*\)[0-9]\([^|]*|\)/\17\2/' results/README.md >"$tmp/changed.md"
cmp -s results/README.md "$tmp/changed.md" && fail "no digit of results/README.md was changed"
expect 1 'differs from its CSVs' --document "$tmp/changed.md" --check
/usr/bin/python3 - <<'PY' || fail "tables of the documents and their CSV files"
import csv, itertools, statistics

def rows(path):
    return list(csv.DictReader(l for l in open("results/" + path) if l[0] != "#"))

def table(document, name):
    lines = open(document).read().split(f"<!-- table {name} -->\n")[1].split("<!-- end of table -->")[0].splitlines()
    return [[c.strip() for c in l.strip("|").split("|")] for l in lines if not l.startswith("|---")]

def pick(of, **want):
    return [r for r in of if all(r[k] == v for k, v in want.items())]

bench = pick(rows("contextual/ranks_bench.csv"), metric="token_ms")
static, = pick(bench, mask="static")
head, *body = table("results/README.md", "ranks_time")
assert [b[0] for b in body] == sorted({r["hidden"] for r in bench if r["hidden"]}, key=int) and len(head) == 9
for rank, *cells in body:
    kinds = itertools.product(("shadow", "dejavu"), ("1", "0"))
    for (design, refresh), time, over in zip(kinds, cells[::2], cells[1::2], strict=True):
        r, = pick(bench, design=design, refresh=refresh, hidden=rank)
        mean, median = float(r["amortised"]), float(r["value"])
        more = 100 * (mean / float(static["amortised"]) - 1)
        assert time == f"{mean:.3f} ({median:.3f})" and over == f"{more:+.1f} %", (rank, design, refresh, time, over)

of = rows("contextual/sweep.csv")
head, *body = table("results/README.md", "contextual")
masks = {"dense": dict(mask="none"), "random": dict(mask="random"),
         "static (scores of all tasks)": dict(mask="static", criterion="plainact", aggregate="all"),
         "static (own scores)": dict(mask="static", criterion="plainact", aggregate="task"),
         "contextual (shadow)": dict(design="shadow", target="layer", criterion="plainact"),
         "contextual (per layer, look-ahead)": dict(design="dejavu", lag="1", criterion="plainact")}
assert len(body) >= 9
for label, *cells in body:
    name, scope = label.rsplit(", ", 1) if label != "dense" else (label, "")
    for column, cell in zip(head[1:], cells, strict=True):
        what, sparsity, _ = column.split()
        metric = dict(metric="acc", task="mean") if what == "acc" else dict(metric="word_perplexity")
        got = pick(of, scope=scope, sparsity=sparsity if scope else "0", **metric, **masks[name])
        digits = 3 if what == "acc" else 2
        want = f"{statistics.mean(float(r['value']) for r in got):.{digits}f}" if got else ""
        assert cell == want, (label, column, cell, want)
        assert len({r["seed"] for r in got}) == len(got)

time = pick(rows("time/bench.csv"), metric="token_ms", engine="own")
for label, dense, dense_share, half, half_share in table("results/README.md", "latency")[1:]:
    model, weights, _ = label.split()
    run = dict(tokens="128", rounds="3") if model == "OPT-125m," else dict(prompt="16", rounds="8")
    for mask, cell, share in (("none", dense, dense_share), ("static", half, half_share)):
        r, = pick(time, model=model.lower().strip(","), weights=weights, mask=mask, **run)
        assert cell == f"{float(r['amortised']):.1f} ({float(r['value']):.1f})", (label, mask, cell)
        want = f"{100 * float(r['roofline']):.0f} % of {float(r['bandwidth']) / 1e9:.0f} GB/s"
        assert share == want, (label, mask, share, want)
PY
exit $bad
