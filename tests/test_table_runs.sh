#!/bin/sh
# test_table_runs - experiments/contextual.sh and ranks.sh on a few documents: the rows they choose and the tables they
# make (bin/tables), read by Python too.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export BIN=${BIN:-bin}
fail() { echo "FAIL: $*"; exit 1; }
"$BIN"/score --model model/default --data data/world --tasks all --shots 0 --examples 4 --criteria plainact,l2_norm --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" &&
    "$BIN"/aggregate --store "$tmp/s.h5" --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "scores: $(cat "$tmp/e")"
small() { LIMIT=2 experiments/contextual.sh small "$tmp/s.h5" "$tmp/s.h5" "$tmp/out" model/default data/world >"$tmp/table" 2>"$tmp/e" || fail "contextual.sh: $(cat "$tmp/e")"; }
small
# Static masks of the task's own scores have no perplexity; those of all tasks have.
[ "$(grep -c '^none\|^random\|^static\|^contextual' "$tmp/table")" = 19 ] && [ "$(grep -c '^static  *own scores.*[0-9]$' "$tmp/table")" = 4 ] && [ "$(awk 'NR > 1 {print $(NF - 5), $NF}' "$tmp/table" | grep -c '^[01][.0-9]* [0-9.]*$')" = 15 ] || fail "points: $(cat "$tmp/table")"
[ "$(awk -F, '/^#/ {next} !t {for (i = 1; i <= NF; i++) if ($i == "task") t = i; next} {print $t}' "$tmp/out/sweep.csv" | sort -u | tr '\n' ' ')" = "mean wikitext " ] || fail "sweep.csv"
[ "$(grep -c '^plainact.*,predictor,\|^l2_norm.*,predictor,' "$tmp/out/metrics.csv")" = 8 ] && [ "$(grep -c '^criterion' "$tmp/out/metrics.csv")" = 1 ] || fail "metrics.csv"
cp "$tmp/out/sweep.csv" "$tmp/once.csv"
small
cmp -s "$tmp/out/sweep.csv" "$tmp/once.csv" || fail "a second run computes again"
ranks() { LIMIT=2 RANKS="4 16" SEEDS="0 1" EPOCHS=1 experiments/ranks.sh "$tmp/s.h5" "$tmp/s.h5" "$tmp/ranks" model/default data/world >"$tmp/table" 2>"$tmp/e" || fail "ranks.sh: $(cat "$tmp/e")"; }
ranks
/usr/bin/python3 - "$tmp/ranks" <<'PY' || fail "ranks.txt: $(cat "$tmp/table")"
import csv, re, statistics, sys
read = lambda name: list(csv.DictReader(l for l in open(f"{sys.argv[1]}/{name}.csv") if l[0] != "#"))
rows, metrics = read("ranks"), read("ranks_metrics")
lines = open(f"{sys.argv[1]}/ranks.txt").read().splitlines()
columns = re.split("  +", lines[0])[2:]
assert [re.split("  +", l)[:2] for l in lines[1:]] == [["early", "4"], ["early", "16"], ["per layer, ahead", "4"], ["per layer, ahead", "16"], ["static, own scores", "-"], ["static", "-"]], lines
for line in lines[1:]:
    who, rank, *cells = re.split("  +", line)
    design = {"early": "shadow", "per layer, ahead": "dejavu", "static": "", "static, own scores": ""}[who]
    assert len(cells) == len(columns) - 4 * (who == "static, own scores"), line  # no perplexity
    for column, cell in zip(columns, cells):
        if column.split()[1] in ("rho", "kept"):
            of = [m for m in metrics if m["units"] == column.split()[0] and (m["by"] == "static_mean" and m["design"] == "shadow" if "static" in who else m["by"] == "predictor" and m["design"] == design and m["hidden"] == rank)]
            want = statistics.mean(float(m["within_rho" if "rho" in column else "overlap_within_50"]) for m in of)
        else:
            scope, sparsity, what = column.split()
            of = [r for r in rows if r["scope"] == scope and r["sparsity"] == sparsity and (r["metric"] == "acc") == (what == "acc") and
                  (r["mask"] == "static" and r["aggregate"] == ("all" if who == "static" else "task") if "static" in who else r["design"] == design and r["hidden"] == rank)]
            want = statistics.mean(float(r["value"]) for r in of)
            assert len(of) == 2, of  # seeds
        assert abs(float(cell) - want) <= (5.1e-4 if "ppl" in column else 5.1e-5), (line, column, want)
PY
cp "$tmp/ranks/ranks.csv" "$tmp/once.csv"
ranks
cmp -s "$tmp/ranks/ranks.csv" "$tmp/once.csv" || fail "a second run of ranks.sh computes again"
experiments/contextual.sh medium 1 2 3 4 5 >/dev/null 2>&1
[ $? = 2 ] || fail "usage"
echo ok
