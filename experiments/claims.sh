#!/bin/sh
# claims.sh DETAILS OUT.csv [DRAWS] - does each claim about pruning masks hold? Every claim says that masks A are better than masks B that agree with them in
# everything else; it is tested on the details of a sweep (bin/sweep --details) by the paired bootstrap of bin/compare, on the mean accuracy of the tasks
# (difference A - B) and on word perplexity (ratio A / B), pooled over all pairs. Claims that have no pairs in the details are left out.
#   verdict  holds: the 95 % interval lies on the claimed side of no difference; reversed: on the other side; open: neither
#   seeds    least and greatest effect of one seed (of training, of the documents, of random masks)
# Prints a table and writes the CSV.
set -e
[ $# -ge 2 ] || { echo "usage: $0 DETAILS OUT.csv [DRAWS]" >&2; exit 2; }
details=$1 out=$2 draws=${3:-10000} bin=${BIN:-bin} tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
same=mode,criterion,design,target,lag,scope,units,sparsity,seed

# What is claimed | masks A | masks B | what a pair agrees in (empty: mode, criterion, scope, units, sparsity, seed)
cat >"$tmp/claims" <<LIST
static (plainact) over random|mask=static,criterion=plainact|mask=random|mode,scope,units,sparsity,seed
static (l2_norm) over random|mask=static,criterion=l2_norm|mask=random|mode,scope,units,sparsity,seed
contextual (early predictor) over static|mask=contextual,design=shadow,target=layer|mask=static|
contextual (early predictor, global targets) over static|mask=contextual,design=shadow,target=global|mask=static|
contextual (per-layer look-ahead predictors) over static|mask=contextual,design=dejavu,lag=1|mask=static|
contextual (per-layer same-layer predictors) over static|mask=contextual,design=dejavu,lag=0|mask=static|
early over per-layer predictors, same layer|mask=contextual,design=shadow,target=layer|mask=contextual,design=dejavu,lag=0|
early over per-layer predictors, look-ahead|mask=contextual,design=shadow,target=layer|mask=contextual,design=dejavu,lag=1|
early over per-layer predictors, look-ahead, local masks|mask=contextual,design=shadow,target=layer,scope=local|mask=contextual,design=dejavu,lag=1,scope=local|
early over per-layer predictors, look-ahead, global masks|mask=contextual,design=shadow,target=layer,scope=global|mask=contextual,design=dejavu,lag=1,scope=global|
as published: early and plainact over per-layer and l2_norm|mask=contextual,design=shadow,target=layer,criterion=plainact|mask=contextual,design=dejavu,lag=0,criterion=l2_norm|
early over per-layer, both plainact|mask=contextual,design=shadow,target=layer,criterion=plainact|mask=contextual,design=dejavu,lag=0,criterion=plainact|
early over per-layer, both l2_norm|mask=contextual,design=shadow,target=layer,criterion=l2_norm|mask=contextual,design=dejavu,lag=0,criterion=l2_norm|
gradient (plainact) over magnitude (l2_norm), contextual|mask=contextual,criterion=plainact|mask=contextual,criterion=l2_norm|$same
gradient (fisher) over magnitude (l2_norm), contextual|mask=contextual,criterion=fisher|mask=contextual,criterion=l2_norm|$same
gradient (plainact) over magnitude (l2_norm), static|mask=static,criterion=plainact|mask=static,criterion=l2_norm|
gradient (fisher) over magnitude (l2_norm), static|mask=static,criterion=fisher|mask=static,criterion=l2_norm|
global over local, contextual|mask=contextual,scope=global|mask=contextual,scope=local|$same
global over local, early predictor with global targets|mask=contextual,design=shadow,target=global,scope=global|mask=contextual,design=shadow,target=global,scope=local|
global over local, static|mask=static,scope=global|mask=static,scope=local|
hybrid over global, contextual|mask=contextual,scope=hybrid|mask=contextual,scope=global|$same
hybrid over local, contextual|mask=contextual,scope=hybrid|mask=contextual,scope=local|$same
targets normalised per layer over all layers at once, global masks|mask=contextual,design=shadow,target=layer,scope=global|mask=contextual,design=shadow,target=global,scope=global|
early predictor over full sequence|mask=contextual,design=shadow,target=layer|mask=contextual,design=sequence|
per-layer scores over DejaVu's low-rank classifiers|mask=contextual,design=dejavu,lag=1|mask=contextual,design=dejavu-lowrank|
LIST

echo 'claim,metric,effect_is,pairs,documents,a,b,effect,low,high,p,seed_low,seed_high,verdict,masks_a,masks_b' >"$tmp/rows"
while IFS='|' read -r claim a b match; do
    if ! "$bin/compare" --details "$details" --a "$a" --b "$b" --match "${match:-mode,criterion,scope,units,sparsity,seed}" --draws "$draws" --out "$tmp/pairs.csv" >"$tmp/text" 2>"$tmp/error"; then
        grep -q 'no line of --a pairs with one of --b' "$tmp/error" && continue
        cat "$tmp/error" >&2
        exit 1
    fi
    # one line for each metric: the pooled row, and what the rows of single pairs say by seed
    awk -F, -v OFS=, -v OFMT=%.10g -v claim="$claim" -v a="$a" -v b="$b" '
        function quoted(s) {return "\"" s "\""}
        /^#/ {next}
        !n {n = NF; for (i = 1; i <= NF; i++) col[$i] = i; next}
        {m = $col["metric"]; if (!(m in pooled)) {order[++metrics] = m; pooled[m] = ""}
         ratio[m] = $col["kind"] == "ratio"; last[m] = $0
         if ($col["seed"] != "" && $col["pairs"] == 1) {s = $col["seed"]; k = m SUBSEP s; if (!(k in count)) seeds[m] = seeds[m] " " s; count[k]++; sum[k] += ratio[m] ? log($col["effect"]) : $col["effect"]}}
        END {for (i = 1; i <= metrics; i++) {
            m = order[i]; split(last[m], f, ",")
            low = high = ""; k = split(seeds[m], each, " ")
            for (j = 1; j <= k; j++) {e = sum[m, each[j]] / count[m, each[j]]; if (ratio[m]) e = exp(e); if (low == "" || e < low) low = e; if (high == "" || e > high) high = e}
            tiny = 1e-12; lo = f[col["low"]]; hi = f[col["high"]]
            verdict = ratio[m] ? (hi < 1 - tiny ? "holds" : lo > 1 + tiny ? "reversed" : "open") : (lo > tiny ? "holds" : hi < -tiny ? "reversed" : "open")
            print quoted(claim), m, f[col["kind"]], f[col["pairs"]], f[col["n"]], f[col["a"]], f[col["b"]], f[col["effect"]], lo, hi, f[col["p"]], low, high, verdict, quoted(a), quoted(b)
        }}' "$tmp/pairs.csv" >>"$tmp/rows"
done <"$tmp/claims"
[ "$(wc -l <"$tmp/rows")" -gt 1 ] || { echo "$0: $details: masks of no claim are there" >&2; exit 1; }
{ grep '^# code' "$tmp/pairs.csv"; echo "# command: $0 $*"; cat "$tmp/rows"; } >"$out.new"
mv "$out.new" "$out"

awk -F'"' 'BEGIN {printf "%-68s %-15s %5s %9s %21s  %s\n", "A over B", "metric", "pairs", "effect", "95 % interval", "verdict"}
    /^#/ || /^claim,/ {next}
    {split($3, f, ","); printf "%-68s %-15s %5d %+9.4f  [%+8.4f, %+8.4f]  %s\n", $2, f[2] == "acc" ? "accuracy A - B" : "perplex. A / B", f[4], f[8], f[9], f[10], f[14]}' "$out"
