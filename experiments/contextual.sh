#!/bin/sh
# contextual.sh full|small SCORES AGGREGATES OUT MODEL DATA - predictors and contextual masks of one model: designs x
# scopes x criteria, beside static and random masks that act on the same positions (from the end of the context on). A
# killed run resumes when it is repeated; repeating a finished one does nothing.
#   full   four designs, three scopes, criteria, sparsities and seeds (of training, of the documents, of the random
#          mask), and two designs more on one criterion and sparsity: 447 points
#   small  two designs, scopes and criteria, three sparsities, one seed: 43 points, for the demo
# OUT gets metrics.csv (the predictors on held-out documents), sweep.csv (mean accuracy of the tasks, word perplexity),
# points.txt (the same as a table, means over the seeds) and claims.csv, claims.txt (bin/compare); OUT/work the rest.
# BIN names the folder of the programs, LIMIT the documents of each task (and pages of the text) and seed, TEXT the
# text, PART the part of both that is evaluated (sweep --part), PAGE_WORDS the words of each page.
set -e
[ $# = 6 ] || { echo "usage: $0 full|small SCORES AGGREGATES OUT MODEL DATA" >&2; exit 2; }
size=$1 scores=$2 aggregates=$3 out=$4 model=$5 data=$6 work=$4/work text=${TEXT:-$6/wikitext/held-out.raw} bin=${BIN:-bin}
case $size in
full) criteria=plainact,fisher,l2_norm scopes=local,global,hybrid sparsities=30,50,70 seeds="0 1 2" limit=${LIMIT:-30} epochs=0
    designs="shadow shadow-global same ahead" few="lowrank sequence" ;;
small) criteria=plainact,l2_norm scopes=local,global sparsities=20,40,60 seeds=0 limit=${LIMIT:-20} epochs=40 designs="shadow ahead" few= ;;
*) echo "$0: $size: not one of full, small" >&2; exit 2 ;;
esac
mkdir -p "$work"

# train DESIGN SEED CRITERIA [OPTION]: a predictor file, and its numbers
train() {
    name=$1 seed=$2 trained=$3
    shift 3
    case $name in
    shadow) options="--design shadow --target layer --epochs $epochs" ;;
    shadow-global) options="--design shadow --target global --epochs $epochs" ;;
    same) options="--design dejavu --features same --epochs $epochs" ;;
    ahead) options="--design dejavu --features ahead --epochs $epochs" ;;
    lowrank) options="--design dejavu-lowrank --features ahead --epochs $epochs" ;;
    sequence) options="--design sequence --target layer --epochs $epochs --early-stop 20" ;;  # an epoch takes five times as long as those of the others
    esac
    "$bin/train" --store "$scores" --model "$model" $options --criterion $trained --seed $seed --out "$work/$name-$seed.h5" --metrics "$work/$name-$seed.csv" "$@" >"$work/$name-$seed.txt"
}
# The predictability of every criterion is shown for one design.
criteria_of() { [ $size-$1-$2 = full-shadow-0 ] && echo all || echo $criteria; }

if [ $size = full ]; then  # the seconds of one seed, times the seeds
    seed=${seeds%% *} total=0
    for name in $designs $few; do
        case " $few " in *" $name "*) what=plainact ;; *) what=$(criteria_of $name $seed) ;; esac
        [ -e "$work/$name-$seed.h5" ] && continue
        train $name $seed $what --estimate
        took=$(sed -n 's/^about \([0-9]*\).*/\1/p' "$work/$name-$seed.txt")
        total=$((total + ${took:-0}))
    done
    echo "predictors: about $((total * $(echo $seeds | wc -w) / 60)) minutes of training; then the sweep says its own time" >&2
fi

# sweep MASKS DESIGNS CRITERIA SCOPES SPARSITIES
sweep() {
    files=
    for name in $2; do files=$files,$work/$name-{seed}.h5; done
    "$bin/sweep" --model "$model" --data "$data" --tasks all --wikitext "$text" --token-perplexity none --limit $limit ${PART:+--part $PART} ${PAGE_WORDS:+--page-words $PAGE_WORDS} --seed $(echo $seeds | tr ' ' ,) \
        --mask $1 --mask-span decode --scores "$aggregates" --aggregate task,all --predictor "${files#,}" --criterion $3 --scope $4 --sparsity $5 \
        --out "$work/sweep.csv" --details "$work/sweep.jsonl" >>"$work/sweep.txt"
}

for seed in $seeds; do
    for name in $designs; do train $name $seed $(criteria_of $name $seed); done
done
sweep none,random,static,contextual "$designs" $criteria $scopes $sparsities
for name in $few; do
    for seed in $seeds; do train $name $seed plainact; done
    sweep contextual $name plainact local,global 50
done
"$bin/tables" --select "$(printf '%s,' "$work"/*-[0-9].csv)" --out "$out/metrics.csv"
"$bin/tables" --select "$work/sweep.csv" --where 'task=mean|wikitext,metric=acc|word_perplexity' --out "$out/sweep.csv"
"$bin/tables" --table points --csv "sweep=$out/sweep.csv" --out "$out/points.txt"
"$bin/compare" --details "$work/sweep.jsonl" --claims experiments/claims.json --out "$out/claims.csv" >"$out/claims.txt"
if [ $size = small ]; then cat "$out/points.txt"; else cat "$out/claims.txt"; fi
