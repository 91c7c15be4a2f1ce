#!/bin/sh
# paper.sh --model DIR --data DIR --wikitext FILE --out OUT [--calibrate FILE] [--size small|full] [--parts]
#          [--device NAME] [--estimate | --draw] - every figure and table of ShadowLLM (2024) for any model, beside the
# published ones: OUT/report.html, with its numbers in OUT/tables, its pictures in OUT/plots and the rows they come
# from in OUT/*.csv.
#   small  on 2 cores under an hour for the default model: 60 examples a task, 20 documents and pages, one seed, times
#          of OPT-125m's and 350m's shapes
#   full   500 examples a task (as published), all documents, three seeds, times of OPT-1.3B to 66B
# It prints its time first, and stops there with --estimate. A killed run resumes when it is repeated; a finished one
# computes nothing. --draw computes nothing either: tables, figures and report of what a run has got to so far. A part
# that fails says so in one line; what needs it is drawn as "not run", and the exit status is 1. A shape that is too
# large for the memory is no failure. --calibrate: a text of a few thousand tokens for the thresholds of threshold
# masks, which are "not run" without it. --parts: for data with one labelled split of a task; one half of its
# documents (and pages) is scored, the other evaluated. For tests and other grids: EXAMPLES, LIMIT, PAGES (of the
# text; LIMIT unless given), PAGE_WORDS (of each page; 0: all), EPOCHS, CRITERIA, SPARSITIES, CRITERIA_SPARSITIES (of
# what compares all criteria: static masks, few shots, neurons alone; SPARSITIES unless given), TEXT_SPARSITIES,
# SEEDS, SHAPES (of times; the first is the one over sparsity and length), TOKENS, ROUNDS, WEIGHTS (of the model),
# FIGURES (scripts), OVER_LONG (skip or cut: texts longer than the model's positions). CONTEXTUAL_EXAMPLES,
# CONTEXTUAL_LIMIT and CONTEXTUAL_PAGES are EXAMPLES, LIMIT and PAGES of contextual masks, where they differ: these
# masks compare few criteria, whose scores are cheap, and their predictors want many examples. BIN names the folder of
# the programs.
set -u
usage() {
    echo "usage: $0 --model DIR --data DIR --wikitext FILE --out OUT [--calibrate FILE] [--size small|full]" \
        "[--parts] [--device NAME] [--estimate | --draw]" >&2
    exit 2
}
model= data= text= out= calibrate= size=small device=cpu only_estimate= only_draw= scored= evaluated=
while [ $# -gt 0 ]; do
    case $1 in
    --estimate) only_estimate=1 ;;
    --draw) only_draw=1 ;;
    --parts) scored='--part 1/2' evaluated='--part 2/2' ;;
    --model | --data | --wikitext | --out | --calibrate | --size | --device)
        [ $# -gt 1 ] || usage
        case $1 in
        --model) model=$2 ;; --data) data=$2 ;; --wikitext) text=$2 ;;
        --out) out=$2 ;; --calibrate) calibrate=$2 ;; --size) size=$2 ;; --device) device=$2 ;;
        esac
        shift
        ;;
    *) usage ;;
    esac
    shift
done
[ -n "$model" ] && [ -n "$data" ] && [ -n "$text" ] && [ -n "$out" ] || usage
case $size in
small)
    examples=60 limit=20 epochs=20 seeds=0 shapes="opt-125m opt-350m opt-1.3b" tokens=32 lengths=64,128 rounds=2
    sparsities=10,20,30,40,50,60,70,80,90 text_sparsities=25,35,45
    ;;
full)
    examples=500 limit=0 epochs=0 seeds=0,1,2 shapes="opt-30b opt-1.3b opt-6.7b opt-13b opt-66b" tokens=128
    lengths=32,64,256 rounds=3 sparsities=10,15,20,25,30,35,40,45,50,60,70,80,90 text_sparsities=
    ;;
*) echo "$0: --size $size: not one of small, full" >&2; exit 2 ;;
esac
examples=${EXAMPLES:-$examples} limit=${LIMIT:-$limit} epochs=${EPOCHS:-$epochs} seeds=${SEEDS:-$seeds}
shapes=${SHAPES:-$shapes} tokens=${TOKENS:-$tokens} rounds=${ROUNDS:-$rounds} sparsities=${SPARSITIES:-$sparsities}
text_sparsities=${TEXT_SPARSITIES-$text_sparsities} each_sparsities=${CRITERIA_SPARSITIES:-$sparsities}
criteria=${CRITERIA:-all} pages=${PAGES:--1} bin=${BIN:-bin}
contextual_examples=${CONTEXTUAL_EXAMPLES:-$examples} contextual_limit=${CONTEXTUAL_LIMIT:-$limit}
contextual_pages=${CONTEXTUAL_PAGES:-$pages}
weights=${WEIGHTS:+--weights $WEIGHTS} work=$out/work failed=0
pair=plainact,l2_norm  # the criteria of the two methods that the paper compares
tasks=
for task in $("$bin/sweep" --list | sed -n 's/^tasks: //p'); do
    if [ -d "$data/$task" ]; then tasks=$tasks,$task; else echo "$task: no folder in $data; it is left out" >&2; fi
done
tasks=${tasks#,}
[ -n "$tasks" ] || { echo "$0: no folder of a task in $data; data/README.md says how it is laid out" >&2; exit 1; }

count() { echo "$1" | tr ', ' '\n\n' | grep -c .; }
# run NAME COMMAND...: one part; its output in work/NAME.log. On failure one line, and the parts after it go on.
run() {
    name=$1
    shift
    echo "$name ..." >&2
    "$@" >"$work/$name.log" 2>&1 && return 0
    echo "$name: failed: $(tail -n 1 "$work/$name.log")" >&2
    failed=1
    return 1
}

score() {
    "$bin/score" --model "$model" $weights --data "$data" --tasks "$tasks" --over-long "${OVER_LONG:-stop}" \
        --device "$device" $scored "$@"
}
score_main() { score --shots 5 --examples "$examples" --criteria "$criteria" --out "$work/scores.h5" "$@"; }
# What contextual masks rest on: scores, aggregates and nets, in a folder of their own where their examples are others.
contextual=$work
[ "$contextual_examples" = "$examples" ] || contextual=$work/contextual
mkdir -p "$contextual" "$out/tables" "$out/plots" || exit 1
score_contextual() {
    score --shots 5 --examples "$contextual_examples" --criteria $pair --out "$contextual/scores.h5" "$@"
}
# score_shots SHOTS
score_shots() {
    score --shots "$1" --examples "$examples" --criteria "$few" --out "$work/shots_$1.h5" &&
        "$bin/aggregate" --store "$work/shots_$1.h5" --out "$work/shots_$1.h5"
}
# aggregate FOLDER [OPTION]...
aggregate() {
    from=$1
    shift
    "$bin/aggregate" --store "$from/scores.h5" --out "$from/aggregates.h5" "$@"
}
# train DESIGN SEED FOLDER [OPTION]...
train() {
    design=$1 seed=$2 to=$3
    shift 3
    case $design in
    early) set -- --design shadow --target layer --criterion "$per_example" "$@" ;;
    same) set -- --design dejavu --features same --criterion "$per_example" "$@" ;;
    ahead) set -- --design dejavu --features ahead --criterion $pair "$@" ;;
    sequence) set -- --design sequence --target layer --early-stop 20 --criterion "$per_example" "$@" ;;
    esac
    "$bin/train" --store "${store:-$work/scores.h5}" --model "$model" --seed "$seed" --epochs "$epochs" \
        --device "${device%%,*}" --out "$to/$design-$seed.h5" --metrics "$to/$design-$seed.csv" "$@"
}
sweep() {
    "$bin/sweep" --model "$model" $weights --data "$data" --limit "$limit" --pages "$pages" \
        --page-words "${PAGE_WORDS:-0}" --over-long "${OVER_LONG:-stop}" --token-perplexity none --device "$device" $evaluated "$@"
}
on_text() { sweep --wikitext "$text" "$@"; }
on_all() { on_text --tasks "$tasks" "$@"; }
# criteria_of FOLDER WHICH: those whose aggregates (FOLDER/head_scores.csv) are of every task (whole), or of some
# (part).
criteria_of() {
    awk -F, -v wanted="$ranked" -v n="$(count "$tasks")" -v which="$2" '
        /^sound,/ && $2 != "all" && !seen[$2, $3]++ {tasks[$3]++}
        END {
            m = split(wanted, c, ",")
            for (i = 1; i <= m; i++) if (tasks[c[i]] && (tasks[c[i]] == n) == (which == "whole")) print c[i]
        }
        ' "$1/head_scores.csv" | paste -sd ,
}
# sweep_static AGGREGATES FOLDER [OPTION]...: by the scores of the task and of all tasks; what some task has no scores
# of (epenas, where too few tokens recur) by those of all alone
sweep_static() {
    from=$1 whole=$(criteria_of "$2" whole) part=$(criteria_of "$2" part)
    shift 2
    set -- --seed "${seeds%%,*}" --scores "$from" --sparsity "$each_sparsities" --out "$work/sweep.csv" \
        --details "$work/sweep.jsonl" "$@"
    on_all --mask none,random,static --criterion "$whole" --aggregate task,all "$@" &&
        { [ -z "$part" ] || on_all --mask static --criterion "$part" --aggregate all "$@"; }
}
# sweep_shots SHOTS AGGREGATES [OPTION]...
sweep_shots() {
    shots=$1 from=$2
    shift 2
    on_text --seed "${seeds%%,*}" --mask static --scores "$from" --aggregate all --criterion "$few" \
        --sparsity "$each_sparsities" --out "$work/shots_$shots.csv" --details "$work/shots_$shots.jsonl" "$@"
}
# sweep_contextual AGGREGATES FOLDER-OF-PREDICTORS [OPTION]...: heads and neurons, masks from the end of the context
# on
sweep_contextual() {
    from=$1 nets=$2
    shift 2
    set -- --seed "$seeds" --mask none,random,static,contextual,reference --mask-span decode --scores "$from" \
        --aggregate task,all --predictor "$nets/early-{seed}.h5,$nets/same-{seed}.h5,$nets/ahead-{seed}.h5" --criterion $pair \
        --scope local,global --out "$contextual/contextual.csv" --details "$contextual/contextual.jsonl" "$@"
    (
        limit=$contextual_limit pages=$contextual_pages
        on_all --sparsity "$sparsities" "$@" &&
            { [ -z "$text_sparsities" ] || on_text --sparsity "$text_sparsities" "$@"; }
    )
}
# sweep_neurons AGGREGATES FOLDER [OPTION]...: neurons alone: threshold masks beside static ones
sweep_neurons() {
    from=$1 whole=$(criteria_of "$2" whole)
    shift 2
    on_all --seed "${seeds%%,*}" --mask none,random,static${calibrate:+,threshold:gate,threshold:product} \
        ${calibrate:+--calibrate "$calibrate"} --units neurons --scope local --scores "$from" --aggregate all \
        --criterion "$whole" --sparsity "$each_sparsities" --out "$work/neurons.csv" "$@"
}
# sweep_means AGGREGATES FOLDER [OPTION]...: static masks whose units put out their mean, which comes with flap
sweep_means() {
    from=$1 whole=$(criteria_of "$2" whole)
    shift 2
    on_text --seed "${seeds%%,*}" --mask static --ablate mean --scores "$from" --aggregate all --criterion "$whole" \
        --sparsity "$each_sparsities" --out "$work/means.csv" "$@"
}
# time_model CRITERION DESIGN: a token of this model under the local masks of the sweep, made once or at every token
# (where global ones of a net for each layer would need a dense pass)
time_model() {
    "$bin/bench" --model "$model" $weights --mask none,static,contextual --scores "$contextual/aggregates.h5" \
        --criterion "$1" \
        --predictor "$contextual/$2-${seeds%%,*}.h5" --scope local --sparsity "$sparsities" --refresh 0,1 --prompt 64 \
        --tokens "$tokens" --rounds "$rounds" --device "$device" --out "$contextual/bench.csv"
}
# Names of all criteria but the exact oracle; those whose scores every few-shot setting has (epenas needs tokens that
# recur).
all_criteria() { "$bin/score" --list | sed -n 's/^\([a-z_0-9]*\): .*/\1/p' | grep -vx removal | paste -sd ,; }
[ -n "${CRITERIA:-}" ] || criteria=$(all_criteria)
ranked=$(echo "$criteria" | tr , '\n' | grep -vx random | paste -sd ,)
few=$(echo "$ranked" | tr , '\n' | grep -vx epenas | paste -sd ,)
per_example=$(echo "$few" | tr , '\n' | grep -vx flap | paste -sd ,)
has_means() { echo "$criteria" | tr , '\n' | grep -qx flap; }

# ---------------------------------------------------------------- how long it will take
# seconds FILE...: the sum of the first times of lines such as "42 examples to compute, 6.6 s on", "about 3 min at".
seconds() {
    awk '/to compute|^about / {
             for (i = 2; i <= NF; i++) {
                 unit = $i == "s" ? 1 : $i == "min" ? 60 : $i == "h" ? 3600 : 0
                 if (unit && $(i - 1) ~ /^[0-9.]+$/) {sum += unit * $(i - 1); break}
             }}
         END {printf "%d\n", sum + 0.5}' "$@"
}
# estimate_score, .._train, .._sweep: by the programs, the latter two with the scores of six documents a task and nets
# of one epoch. The texts of 0 and 3 shots together are shorter than those of 5. Training takes longer with more
# examples.
estimate_score() {
    score_main --estimate 2>/dev/null >"$work/estimate.txt"
    took=$((2 * $(seconds "$work/estimate.txt"))) more=0
    if [ "$contextual" != "$work" ]; then
        score_contextual --estimate 2>/dev/null >"$work/estimate.txt"
        more=$(seconds "$work/estimate.txt")
    fi
    echo $((took + more))
}
small_scores() {
    [ -e "$work/small/ahead-${seeds%%,*}.h5" ] && return
    mkdir -p "$work/small"
    score --shots 0 --examples 6 --criteria "$criteria" --out "$work/small/scores.h5" &&
        "$bin/aggregate" --store "$work/small/scores.h5" --out "$work/small/aggregates.h5" --csv "$work/small" &&
        for seed in $(echo "$seeds" | tr , ' '); do
            for design in early same ahead; do
                (epochs=1 store=$work/small/scores.h5 per_example=$pair; train $design "$seed" "$work/small") || return
            done
        done
}
estimate_train() {
    for design in early same ahead sequence; do
        store=$work/small/scores.h5 train $design "${seeds%%,*}" "$work" --estimate
    done 2>/dev/null >"$work/estimate.txt"
    took=$(seconds "$work/estimate.txt") more=0
    if [ "$contextual" != "$work" ]; then
        for design in early same ahead; do
            store=$work/small/scores.h5 per_example=$pair train $design "${seeds%%,*}" "$work" --estimate
        done 2>/dev/null >"$work/estimate.txt"
        more=$(seconds "$work/estimate.txt")
    fi
    fold=6
    [ "$epochs" -gt 0 ] || fold=150
    echo $(($(count "$seeds") * (took * (examples / fold + 1) + more * (contextual_examples / fold + 1))))
}
estimate_sweep() {
    sweep_static "$work/small/aggregates.h5" "$work/small" --estimate >"$work/estimate.txt" 2>&1
    sweep_contextual "$work/small/aggregates.h5" "$work/small" --estimate >>"$work/estimate.txt" 2>&1
    sweep_neurons "$work/small/aggregates.h5" "$work/small" --estimate >>"$work/estimate.txt" 2>&1
    ! has_means || sweep_means "$work/small/aggregates.h5" "$work/small" --estimate >>"$work/estimate.txt" 2>&1
    for k in 0 3; do sweep_shots $k "$work/small/aggregates.h5" --estimate >>"$work/estimate.txt" 2>&1; done
    seconds "$work/estimate.txt"
}
# Times: a prompt and four dense tokens of this model and of the first shape, and so much more for larger shapes as
# they have weights.
estimate_time() {
    each=$(count "$sparsities")
    one() {
        "$bin/bench" --mask none --prompt "$1" --tokens 4 --rounds 1 --device "$device" "$2" "$3" 2>/dev/null |
            awk -v tokens="$tokens" '/^none/ {print ($5 + tokens * $7) / 1000}'
    }
    ours=$(one 64 --model "$model") theirs=$(one 128 --shape "${shapes%% *}")
    room=1e18
    [ "$device" != cpu ] || room=$(awk '/^MemAvailable/ {print 1024 * $2}' /proc/meminfo)
    "$bin/costs" --shape "$(echo $shapes | tr ' ' ,)" |
        awk -F, -v ours="${ours:-0}" -v theirs="${theirs:-0}" -v n="$each" -v rounds="$rounds" -v room="$room" '
            $6 == "built" && $7 == "shadow" {
                weights = 12 * $2 * $4 * $4
                if (!first) first = weights
                if (2 * weights < room) sum += weights
            }
            END {printf "%d\n", rounds * (2 * (2 + 4 * n) * ours + theirs * (4 * n + 12 + 4 * sum / first)) + 0.5}'
}
print_estimate() {
    small_scores >"$work/small.log" 2>&1 || { echo "no estimate: $(tail -n 1 "$work/small.log")" >&2; return 1; }
    scoring=$(estimate_score) training=$(estimate_train) sweeping=$(estimate_sweep) timing=$(estimate_time)
    echo "estimate: about $(((scoring + training + sweeping + timing) / 60 + 1)) minutes: scoring $scoring s, training" \
        "$training s, sweeps $sweeping s, times of tokens $timing s" >&2
}
if [ -z "$only_draw" ] && { [ ! -e "$out/report.html" ] || [ -n "$only_estimate" ]; }; then
    print_estimate || exit 1
    [ -z "$only_estimate" ] || exit 0
fi

# ---------------------------------------------------------------- the parts, those first that the most rests on
# train_all DESIGN...: of each seed
train_all() {
    for seed in $(echo "$seeds" | tr , ' '); do
        for design; do run "train-$design-$seed" train "$design" "$seed" "$work"; done
    done
}
# train_contextual: the nets of contextual masks, from scores of their own
train_contextual() {
    for seed in $(echo "$seeds" | tr , ' '); do
        for design in early same ahead; do
            store=$contextual/scores.h5 per_example=$pair train "$design" "$seed" "$contextual" || return
        done
    done
}
compute() {
    run score score_main || exit 1
    run aggregate aggregate "$work" --csv "$out"
    if [ "$contextual" = "$work" ]; then
        train_all early same ahead
    else
        train_all early same
        run score-contextual score_contextual && run aggregate-contextual aggregate "$contextual" &&
            run train-contextual train_contextual
    fi
    run contextual sweep_contextual "$contextual/aggregates.h5" "$contextual"
    run sweep sweep_static "$work/aggregates.h5" "$out"
    train_all sequence
    run neurons sweep_neurons "$work/aggregates.h5" "$out"
    ! has_means || run means sweep_means "$work/aggregates.h5" "$out"
    for k in 0 3; do
        run "score-shots-$k" score_shots $k && run "sweep-shots-$k" sweep_shots $k "$work/shots_$k.h5"
    done
    run costs "$bin/costs" --model "$model" --out "$out/costs.csv"
    run time-early time_model plainact early
    run time-ahead time_model l2_norm ahead
    others=$(echo "$sparsities" | tr , '\n' | grep -vx 50 | paste -sd ,)
    run latency env BIN="$bin" SHAPES="$shapes" DEVICE="$device" WEIGHTS=fp16 TOKENS="$tokens" LENGTHS="$lengths" \
        ROUNDS="$rounds" SPARSITIES="$others" experiments/latency.sh "$work/latency"
    cat "$work/latency.log" >&2
}
[ -n "$only_draw" ] || compute

# ---------------------------------------------------------------- what figures read
# keep NAME WHERE [FOLDER]: the rows of a sweep that figures read.
keep() {
    rows=${3:-$work}/$1.csv
    [ ! -e "$rows" ] || "$bin/tables" --select "$rows" ${2:+--where "$2"} --out "$out/$1.csv" || failed=1
}
# claims DETAILS CLAIMS CSV [FOLDER]: of those details that are there.
claims() {
    details=$(for file in $1; do [ ! -e "${4:-$work}/$file" ] || echo "${4:-$work}/$file"; done | paste -sd ,)
    [ -z "$details" ] || run "compare-$3" "$bin/compare" --details "$details" --claims "$2" --out "$out/$3.csv"
}
keep sweep "task=mean|wikitext,metric=acc|word_perplexity"
keep contextual "metric=acc|word_perplexity" "$contextual"
keep neurons "task=mean|wikitext,metric=acc|word_perplexity"
keep means "metric=word_perplexity"
for k in 0 3; do keep "shots_$k" "metric=word_perplexity"; done
keep bench "" "$contextual"
for over in sparsity length size; do keep "time_$over" "" "$work/latency"; done
metrics=$({
    find "$work" -maxdepth 1 \( -name 'early-[0-9]*.csv' -o -name 'same-[0-9]*.csv' -o -name 'sequence-[0-9]*.csv' \)
    find "$contextual" -maxdepth 1 -name 'ahead-[0-9]*.csv'
} | sort | paste -sd ,)
[ -z "$metrics" ] || "$bin/tables" --select "$metrics" --out "$out/metrics.csv" || failed=1
claims contextual.jsonl experiments/claims.json claims "$contextual"
claims "sweep.jsonl shots_0.jsonl shots_3.jsonl" experiments/paper/few_shot.json shots_claims

# ---------------------------------------------------------------- tables, figures, report
for tables in published claims here; do
    "$bin/tables" --spec "experiments/paper/$tables.json" --in "$out" --all "$out/tables" || failed=1
done
for figure in ${FIGURES-plots/paper_*.gp plots/head_scores.gp plots/correlation.gp}; do
    run "$(basename "$figure" .gp)" env LC_ALL=C.UTF-8 gnuplot -e "src='$out'; dst='$out/plots'" "$figure"
done
run report "$bin/report" --spec experiments/paper/report.json --in "$out" --out "$out/report.html"
[ $failed = 1 ] || echo "$out/report.html" >&2
exit $failed
