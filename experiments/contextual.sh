#!/bin/sh
# contextual.sh full|small SCORES AGGREGATES OUT MODEL DATA - predictors and contextual masks of one model: designs x scopes x criteria, beside static and
# random masks that act on the same positions (from the end of the context on). A killed run goes on; a finished one computes nothing anew.
#   full   four designs, three scopes, criteria, sparsities and seeds (of training, of the documents, of the random mask), and two designs more on one
#          criterion and sparsity: 447 points
#   small  two designs, scopes and criteria, three sparsities, one seed: 43 points, for the demo
# OUT gets metrics.csv (the predictors on held-out documents), sweep.csv (mean accuracy of the tasks, word perplexity), points.txt (the same as a table, means over
# the seeds) and claims.csv, claims.txt (bin/compare); OUT/work the rest. BIN names the folder of the programs, LIMIT the documents of
# each task (and pages of the text) and seed, TEXT the text.
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

if [ $size = full ]; then  # of one seed, times the seeds
    seed=${seeds%% *}
    for name in $designs $few; do
        case " $few " in *" $name "*) what=plainact ;; *) what=$(criteria_of $name $seed) ;; esac
        [ -e "$work/$name-$seed.h5" ] || { train $name $seed $what --estimate && sed -n 's/^about \([0-9.]*\) s.*/\1/p' "$work/$name-$seed.txt"; }
    done | awk -v seeds="$(echo $seeds | wc -w)" '{s += $1} END {printf "predictors: about %.0f minutes of training; then the sweep says its own time\n", s * seeds / 60}' >&2
fi

# sweep MASKS DESIGNS CRITERIA SCOPES SPARSITIES
sweep() {
    files=
    for name in $2; do files=$files,$work/$name-{seed}.h5; done
    "$bin/sweep" --model "$model" --data "$data" --tasks all --wikitext "$text" --token-perplexity none --limit $limit --seed $(echo $seeds | tr ' ' ,) \
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
awk '/^#/ {if (NR == FNR) print; next} /^criterion,/ && n++ {next} 1' "$work"/*-[0-9].csv >"$out/metrics.csv"
awk -F, '/^#/ {print; next} !n {n = NF; for (i = 1; i <= NF; i++) c[$i] = i; print; next}
    ($c["task"] == "mean" && $c["metric"] == "acc") || $c["metric"] == "word_perplexity"' "$work/sweep.csv" >"$out/sweep.csv"

# Accuracy and perplexity of every kind of mask, means over the seeds, a column for each sparsity.
awk -F, '/^#/ {next} !n {n = NF; for (i = 1; i <= NF; i++) c[$i] = i; next}
    $c["metric"] != "acc" && $c["metric"] != "word_perplexity" {next}
    {design = $c["design"] == "dejavu" ? ($c["lag"] ? "per layer, ahead" : "per layer, same") : $c["design"] == "shadow" && $c["target"] == "global" ? "shadow, global targets" : $c["design"]
     mask = sprintf("%-10s %-22s %-9s %-6s", $c["mask"], design, $c["criterion"], $c["scope"]); p = $c["sparsity"]
     if (!(mask in seen)) {seen[mask] = 1; order[++masks] = mask}
     if (p > 0 && !(p in known)) {known[p] = 1; for (i = ++np; i > 1 && ps[i - 1] + 0 > p + 0; i--) ps[i] = ps[i - 1]; ps[i] = p}
     k = mask SUBSEP p SUBSEP $c["metric"]; sum[k] += $c["value"]; count[k]++}
    function cell(m, p, metric, format) {k = m SUBSEP p SUBSEP metric; return k in sum ? sprintf(format, sum[k] / count[k]) : sprintf("%8s", "")}
    END {
        printf "%-50s", ""; for (i = 1; i <= np; i++) printf " acc %3d%%", ps[i]; for (i = 1; i <= np; i++) printf " ppl %3d%%", ps[i]; printf "\n"
        for (j = 1; j <= masks; j++) {
            m = order[j]; line = sprintf("%-50s", m)
            for (i = 1; i <= np; i++) line = line " " cell(m, (m SUBSEP 0 SUBSEP "acc") in sum ? 0 : ps[i], "acc", "%8.4f")
            for (i = 1; i <= np; i++) line = line " " cell(m, (m SUBSEP 0 SUBSEP "acc") in sum ? 0 : ps[i], "word_perplexity", "%8.3f")
            print line
        }
    }' "$out/sweep.csv" >"$out/points.txt"
"$bin/compare" --details "$work/sweep.jsonl" --claims experiments/claims.json --out "$out/claims.csv" >"$out/claims.txt"
if [ $size = small ]; then cat "$out/points.txt"; else cat "$out/claims.txt"; fi
