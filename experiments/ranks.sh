#!/bin/sh
# ranks.sh SCORES AGGREGATES OUT MODEL DATA - what the rank of predictors (the hidden units of each net) buys: shadow
# and look-ahead dejavu predictors of plainact over ranks, under local and global masks at two sparsities, seed by seed.
# A killed run resumes when it is repeated; repeating a finished one does nothing. OUT gets ranks.csv (mean accuracy of
# the tasks, word perplexity), ranks_metrics.csv (the predictors on held-out documents) and ranks.txt (both as a table,
# means over the seeds); OUT/work the rest. RANKS, SEEDS, EPOCHS (0: those of train) and LIMIT (documents of each task,
# pages of the text) change the grid; BIN names the folder of the programs. Time over rank: bin/bench on the same
# predictor files (make contextual-ranks).
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

seed=${seeds%% *} total=0
for rank in $ranks; do  # the seconds of one seed, times the seeds
    for design in $designs; do
        [ -e "$work/rank-$design-$rank-$seed.h5" ] && continue
        train $design $rank $seed --estimate
        took=$(sed -n 's/^about \([0-9]*\).*/\1/p' "$work/rank-$design-$rank-$seed.txt")
        total=$((total + ${took:-0}))
    done
done
echo "predictors: about $((total * $(echo $seeds | wc -w) / 60)) minutes of training; then the sweep of each seed says its own time" >&2

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
"$bin/tables" --select "$(printf '%s,' "$work"/rank-*.csv)" --out "$out/ranks_metrics.csv"
"$bin/tables" --select "$work/ranks.csv" --where 'task=mean|wikitext,metric=acc|word_perplexity' --out "$out/ranks.csv"
"$bin/tables" --table ranks_all --csv "ranks=$out/ranks.csv,ranks_metrics=$out/ranks_metrics.csv" --out "$out/ranks.txt"
cat "$out/ranks.txt"
