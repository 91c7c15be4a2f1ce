#!/bin/sh
# test_claims - experiments/claims.sh on made-up details of a sweep: effects, seeds and verdicts that follow from how they were made; and
# experiments/contextual.sh and ranks.sh on a few documents.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export BIN=${BIN:-bin}
fail() { echo "FAIL: $*"; exit 1; }

/usr/bin/python3 - "$tmp/details.jsonl" <<'PY' || fail "python3"
import json, sys
# mask, criterion, design, target, lag, scope -> share of right answers of 40 documents of each of two tasks, log-likelihood of a word
masks = {("static", "plainact", "", "", "", "local"): (0.75, -3.0), ("static", "l2_norm", "", "", "", "local"): (0.5, -2.5), ("random", "", "", "", "", "local"): (0.25, -3.0),
         ("contextual", "plainact", "shadow", "layer", "", "local"): (0.75, -2.0), ("contextual", "l2_norm", "shadow", "layer", "", "local"): (0.75, -2.0),
         ("contextual", "plainact", "dejavu", "layer", "1", "local"): (1.0, -1.5)}
with open(sys.argv[1], "w") as out:
    for (mask, criterion, design, target, lag, scope), (share, ll) in masks.items():
        for sparsity in ("30", "50"):
            for seed in "01":
                row = dict(mode="sound", mask=mask, criterion=criterion, design=design, target=target, lag=lag, hidden="", scope=scope, units="both", sparsity=sparsity,
                           mask_span="decode", refresh="", seed=seed)
                right = 40 * share - (4 if seed == "1" and mask == "random" else 0)
                for task in ("copa", "piqa"):
                    for i in range(40):
                        print(json.dumps(dict(row, task=task, id=str(i), gold=1, prediction=int((i * 7) % 40 < right), prediction_norm=0)), file=out)
                for page in range(10):
                    print(json.dumps(dict(row, task="wikitext", id=str(page), words=100 + page, log_likelihood=(100 + page) * (ll + (0.01 if page % 2 else -0.01)))), file=out)
PY
experiments/claims.sh "$tmp/details.jsonl" "$tmp/claims.csv" 1000 >"$tmp/table" 2>"$tmp/e" || fail "$(cat "$tmp/e")"
/usr/bin/python3 - "$tmp/claims.csv" <<'PY' || fail "$(cat "$tmp/table")"
import csv, math, sys
got = {(r["claim"], r["metric"]): r for r in csv.DictReader(l for l in open(sys.argv[1]) if l[0] != "#")}
assert len(got) == 2 * len({c for c, _ in got})

def expect(claim, metric, verdict, pairs, effect, seeds):
    r = got[claim, metric]
    assert r["verdict"] == verdict and int(r["pairs"]) == pairs, r
    assert abs(float(r["effect"]) - effect) < 1e-6, r
    assert float(r["low"]) - 1e-8 <= effect <= float(r["high"]) + 1e-8, r
    for name, value in zip(("seed_low", "seed_high"), seeds):
        assert abs(float(r[name]) - value) < 1e-6, r

early, over = "contextual (early predictor) over static", "contextual (per-layer look-ahead predictors) over static"
# plainact 0.75 - 0.75, l2_norm 0.75 - 0.5: both seeds the same; log-likelihoods -2 against -3 and -2.5
expect(early, "acc", "holds", 4 * 2, 0.125, (0.125, 0.125))
expect(early, "word_perplexity", "holds", 4 * 2, math.exp(-0.75), (math.exp(-0.75),) * 2)
expect(over, "acc", "holds", 4, 0.25, (0.25, 0.25))
expect("early over per-layer predictors, look-ahead", "acc", "reversed", 4, -0.25, (-0.25, -0.25))
expect("early over per-layer predictors, look-ahead", "word_perplexity", "reversed", 4, math.exp(0.5), (math.exp(0.5),) * 2)
expect("gradient (plainact) over magnitude (l2_norm), contextual", "acc", "open", 4, 0, (0, 0))
expect("gradient (plainact) over magnitude (l2_norm), static", "acc", "holds", 4, 0.25, (0.25, 0.25))
expect("gradient (plainact) over magnitude (l2_norm), static", "word_perplexity", "reversed", 4, math.exp(0.5), (math.exp(0.5),) * 2)
# random masks are right 10 or 6 times of 40
expect("static (plainact) over random", "acc", "holds", 4, (0.5 + 0.6) / 2, (0.5, 0.6))
assert not any("fisher" in c or "hybrid" in c or "sequence" in c for c, _ in got), got.keys()
PY
grep -q 'reversed$' "$tmp/table" && [ "$(grep -c 'perplex' "$tmp/table")" -gt 4 ] || fail "table: $(cat "$tmp/table")"
experiments/claims.sh "$tmp/nothing.jsonl" "$tmp/no.csv" >"$tmp/o" 2>&1 && fail "missing details were not refused"
[ ! -e "$tmp/no.csv" ] && grep -q 'nothing.jsonl' "$tmp/o" || fail "missing details: $(cat "$tmp/o")"
head -n 100 "$tmp/details.jsonl" >"$tmp/few.jsonl"
experiments/claims.sh "$tmp/few.jsonl" "$tmp/no.csv" >"$tmp/o" 2>&1 && fail "details without pairs were not refused"
grep -q 'masks of no claim' "$tmp/o" || fail "few: $(cat "$tmp/o")"

"$BIN"/score --model model/default --data data/world --tasks copa,piqa --shots 0 --examples 12 --criteria plainact,l2_norm --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" &&
    "$BIN"/aggregate --store "$tmp/s.h5" --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "scores: $(cat "$tmp/e")"
small() { LIMIT=2 experiments/contextual.sh small "$tmp/s.h5" "$tmp/s.h5" "$tmp/out" model/default data/world >"$tmp/table" 2>"$tmp/e" || fail "contextual.sh: $(cat "$tmp/e")"; }
small
[ "$(grep -c '^none\|^random\|^static\|^contextual' "$tmp/table")" = 15 ] && [ "$(awk 'NR > 1 {print $(NF - 5), $NF}' "$tmp/table" | grep -c '^[01][.0-9]* [0-9.]*$')" = 15 ] || fail "points: $(cat "$tmp/table")"
[ "$(awk -F, '/^#/ {next} !t {for (i = 1; i <= NF; i++) if ($i == "task") t = i; next} {print $t}' "$tmp/out/sweep.csv" | sort -u | tr '\n' ' ')" = "mean wikitext " ] || fail "sweep.csv"
[ "$(grep -c '^plainact.*,predictor,\|^l2_norm.*,predictor,' "$tmp/out/metrics.csv")" = 8 ] && [ "$(grep -c '^criterion' "$tmp/out/metrics.csv")" = 1 ] || fail "metrics.csv"
cp "$tmp/out/sweep.csv" "$tmp/once.csv"
small
cmp -s "$tmp/out/sweep.csv" "$tmp/once.csv" || fail "a second run computes anew"
ranks() { LIMIT=2 RANKS="4 16" SEEDS="0 1" EPOCHS=1 experiments/ranks.sh "$tmp/s.h5" "$tmp/s.h5" "$tmp/ranks" model/default data/world >"$tmp/table" 2>"$tmp/e" || fail "ranks.sh: $(cat "$tmp/e")"; }
ranks
/usr/bin/python3 - "$tmp/ranks" <<'PY' || fail "ranks.txt: $(cat "$tmp/table")"
import csv, re, statistics, sys
read = lambda name: list(csv.DictReader(l for l in open(f"{sys.argv[1]}/{name}.csv") if l[0] != "#"))
rows, metrics = read("ranks"), read("ranks_metrics")
lines = open(f"{sys.argv[1]}/ranks.txt").read().splitlines()
columns = re.split("  +", lines[0])[2:]
assert [re.split("  +", l)[:2] for l in lines[1:]] == [["early", "4"], ["early", "16"], ["per layer, ahead", "4"], ["per layer, ahead", "16"], ["static", "-"]], lines
for line in lines[1:]:
    who, rank, *cells = re.split("  +", line)
    design = {"early": "shadow", "per layer, ahead": "dejavu", "static": ""}[who]
    for column, cell in zip(columns, cells, strict=True):
        if column.split()[1] in ("rho", "kept"):
            of = [m for m in metrics if m["units"] == column.split()[0] and (m["by"] == "static_mean" and m["design"] == "shadow" if who == "static" else m["by"] == "predictor" and m["design"] == design and m["hidden"] == rank)]
            want = statistics.mean(float(m["within_rho" if "rho" in column else "overlap_within_50"]) for m in of)
        else:
            scope, sparsity, what = column.split()
            of = [r for r in rows if r["scope"] == scope and r["sparsity"] == sparsity and (r["metric"] == "acc") == (what == "acc") and
                  (r["mask"] == "static" if who == "static" else r["design"] == design and r["hidden"] == rank)]
            want = statistics.mean(float(r["value"]) for r in of)
            assert len(of) == 2, of  # seeds
        assert abs(float(cell) - want) <= (5.1e-4 if "ppl" in column else 5.1e-5), (line, column, want)
PY
cp "$tmp/ranks/ranks.csv" "$tmp/once.csv"
ranks
cmp -s "$tmp/ranks/ranks.csv" "$tmp/once.csv" || fail "a second run of ranks.sh computes anew"
experiments/contextual.sh medium 1 2 3 4 5 >/dev/null 2>&1
[ $? = 2 ] || fail "usage"
echo ok
