#!/bin/sh
# ranks.sh SCORES AGGREGATES OUT MODEL DATA - what the rank of predictors (the hidden units of each net) buys: shadow and look-ahead dejavu predictors of plainact over
# ranks, under local and global masks at two sparsities, seed by seed. A killed run goes on; a finished one computes nothing anew.
# OUT gets ranks.csv (mean accuracy of the tasks, word perplexity), ranks_metrics.csv (the predictors on held-out documents) and ranks.txt (both as a table, means over the
# seeds); OUT/work the rest. RANKS, SEEDS, EPOCHS (0: those of train) and LIMIT (documents of each task, pages of the text) change the grid; BIN names the folder of the
# programs. Time over rank: bin/bench on the same predictor files (make contextual-ranks).
set -e
[ $# = 5 ] || { echo "usage: $0 SCORES AGGREGATES OUT MODEL DATA" >&2; exit 2; }
scores=$1 aggregates=$2 out=$3 model=$4 data=$5 work=$3/work bin=${BIN:-bin}
ranks=${RANKS:-64 128 256 512 1024 2048} seeds=${SEEDS:-0 1 2} limit=${LIMIT:-30} epochs=${EPOCHS:-0} designs="shadow ahead"
mkdir -p "$work"

# train DESIGN RANK SEED [OPTION]: a predictor file, and its numbers
train() {
    file=$work/rank-$1-$2-$3 rank=$2 seed=$3
    case $1 in shadow) options="--design shadow --target layer" ;; ahead) options="--design dejavu --features ahead" ;; esac
    shift 3
    "$bin/train" --store "$scores" --model "$model" $options --hidden $rank --criterion plainact --epochs $epochs --seed $seed --out "$file.h5" --metrics "$file.csv" "$@" >"$file.txt"
}

seed=${seeds%% *}
for rank in $ranks; do  # of one seed, times the seeds
    for design in $designs; do
        file=$work/rank-$design-$rank-$seed
        [ -e "$file.h5" ] || { train $design $rank $seed --estimate && sed -n 's/^about \([0-9]*\).*/\1/p' "$file.txt"; }
    done
done | awk -v seeds="$(echo $seeds | wc -w)" '{s += $1} END {printf "predictors: about %.0f minutes of training; then the sweep of each seed says its own time\n", s * seeds / 60}' >&2

for seed in $seeds; do
    files=
    for rank in $ranks; do
        for design in $designs; do
            train $design $rank $seed
            files=$files,$work/rank-$design-$rank-{seed}.h5
        done
    done
    "$bin/sweep" --model "$model" --data "$data" --tasks all --wikitext "$data/wikitext/held-out.raw" --token-perplexity none --limit $limit --seed $seed --mask none,static,contextual \
        --mask-span decode --scores "$aggregates" --aggregate task,all --predictor "${files#,}" --criterion plainact --scope local,global --sparsity 50,70 --out "$work/ranks.csv" >>"$work/ranks.txt"
done
awk '/^#/ {if (NR == FNR) print; next} /^criterion,/ && n++ {next} 1' "$work"/rank-*.csv >"$out/ranks_metrics.csv"
awk -F, '/^#/ {print; next} !n {n = NF; for (i = 1; i <= NF; i++) c[$i] = i; print; next}
    ($c["task"] == "mean" && $c["metric"] == "acc") || $c["metric"] == "word_perplexity"' "$work/ranks.csv" >"$out/ranks.csv"

# A row for each design and rank; that of static masks and of the static mean last.
awk -F, '/^#/ {next}
    $1 == "mode" || $1 == "criterion" {split("", c); for (i = 1; i <= NF; i++) c[$i] = i; metrics = $1 == "criterion"; next}
    function mask(design, hidden) {return sprintf("%-17s %5s", design == "dejavu" ? "per layer, ahead" : design == "shadow" ? "early" : "static", hidden)}
    function add(row, cell, value) {sum[row, cell] += value; count[row, cell]++}
    metrics && ($c["by"] == "input_norm" || ($c["by"] == "static_mean" && $c["design"] != "shadow")) {next}  # look-ahead nets leave the first layer out
    metrics {
        of = $c["by"] == "predictor" ? mask($c["design"], $c["hidden"]) : mask("", "-")
        place = $c["by"] == "predictor" ? $c["hidden"] + ($c["design"] == "dejavu") * 1e6 : 1e9
        if (!(of in seen)) {seen[of] = 1; for (i = ++n; i > 1 && place < at[i - 1]; i--) {order[i] = order[i - 1]; at[i] = at[i - 1]} order[i] = of; at[i] = place}
        add(of, $c["units"] " rho", $c["within_rho"]); add(of, $c["units"] " kept", $c["overlap_within_50"])}
    !metrics && $c["mask"] != "none" {
        of = $c["mask"] == "static" ? mask("", "-") : mask($c["design"], $c["hidden"])
        add(of, $c["scope"] " " $c["sparsity"] ($c["metric"] == "acc" ? " acc" : " ppl"), $c["value"])}
    END {
        cells = split("heads rho,neurons rho,heads kept,neurons kept,local 50 acc,local 70 acc,global 50 acc,global 70 acc,local 50 ppl,local 70 ppl,global 50 ppl,global 70 ppl", cell, ",")
        printf "%-17s %5s", "masks", "rank"; for (i = 1; i <= cells; i++) printf "  %s", cell[i]; printf "\n"
        for (j = 1; j <= n; j++) {
            printf "%s", order[j]
            for (i = 1; i <= cells; i++) printf "  %*.*f", length(cell[i]), cell[i] ~ /ppl/ ? 3 : 4, sum[order[j], cell[i]] / count[order[j], cell[i]]
            printf "\n"
        }
    }' "$out/ranks_metrics.csv" "$out/ranks.csv" >"$out/ranks.txt"
cat "$out/ranks.txt"
