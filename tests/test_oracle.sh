#!/bin/sh
# test_oracle [opt|llama|FAMILY-KIND [SEED ...]] - bin/score against ../shared/oracle/oracle.py, an independent float64
# PyTorch statement of the model and of every criterion: random checkpoints, scored, recomputed and compared; a line
# that begins with FAR fails. Without an argument: two small cases. opt (make oracle): pre-LN, post-LN with projection
# and odd sizes; llama: the kinds of that family; each stored as float32, float16 and bfloat16, 0 and 5 shots, both
# formulas of OPT, epenas and removal. On 2 cores some 17 and 28 minutes a seed. One kind alone: opt-post, llama-qwen2.
# PYTHON: an interpreter with torch, numpy and h5py.
oracle=../shared/oracle/oracle.py data=../shared/data PYTHON=${PYTHON:-python3}
score=${BIN:-bin}/score tmp=$(mktemp -d) bad=0 cases=0
trap 'rm -rf "$tmp"' EXIT
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
[ -f $oracle ] && [ -d $data ] || { echo "SKIP: no $oracle and $data"; exit 77; }
"$PYTHON" -c 'import torch, numpy, h5py' 2>/dev/null || { echo "SKIP: $PYTHON has no torch, numpy and h5py (set PYTHON)"; exit 77; }

opts="pre post odd" kinds="llama mistral qwen2 qwen3 relu"  # kinds have no published formulas
family() { case " $kinds " in *" $1 "*) return 0 ;; *) return 1 ;; esac }
make_model() {
    family "$1" && mode=sound || mode=both
    "$PYTHON" $oracle make "$tmp/model" --kind "$1" --dtype "$2" --seed "$3" || exit 1
}

# scored NAME OPTION...
scored() {
    name=$1
    shift
    "$score" --model "$tmp/model" --data $data --mode $mode --over-long cut --out "$tmp/$name.h5" "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
}

# compared LABEL NAME OPTION... : prints what is far and the summary.
compared() {
    label=$1 name=$2
    shift 2
    "$PYTHON" $oracle compare "$tmp/$name.h5" --model "$tmp/model" "$@" >"$tmp/log" 2>&1
    code=$?
    cases=$((cases + 1))
    echo "$label: $(tail -n 1 "$tmp/log")"
    if [ $code -ne 0 ] || grep -q '^FAR' "$tmp/log"; then
        bad=1
        grep '^FAR' "$tmp/log" || cat "$tmp/log"
    fi
}

# case_of KIND DTYPE SHOTS SEED
case_of() {
    what="$1 $2 $3-shot seed $4"
    rm -f "$tmp"/*.h5
    scored many --tasks "$tasks" --shots "$3" --examples 4 --criteria all,wanda --seed "$4"
    compared "$what sound" many --examples 20 --mode sound --require wanda
    family "$1" || compared "$what compat" many --examples 20 --mode compat
    scored rows --tasks rte,winogrande --shots "$3" --examples 16 --criteria all --seed "$4"
    compared "$what epenas" rows --examples 1 --tasks
    scored one --tasks copa,arc_easy --shots "$3" --examples 1 --criteria all,removal --removal-neurons 1 --seed "$4"
    compared "$what removal" one --examples 2 --removal
}

of_family=
case ${1:-} in
'') ;;
opt) of_family=$opts ;;
llama) of_family=$kinds ;;
*)
    for kind in $opts; do [ "$1" = "opt-$kind" ] && of_family=$kind; done
    for kind in $kinds; do [ "$1" = "llama-$kind" ] && of_family=$kind; done
    [ -n "$of_family" ] || { echo "test_oracle: $1: not one of opt, llama, or a kind of these, such as llama-qwen2" >&2; exit 2; }
    ;;
esac
if [ -n "$of_family" ]; then
    shift
    [ $# -gt 0 ] || set -- 1
    tasks=piqa,copa,openbookqa,winogrande,arc_easy
    for seed; do
        for kind in $of_family; do
            for dtype in float32 float16 bfloat16; do
                make_model $kind $dtype "$seed"
                for shots in 0 5; do case_of $kind $dtype $shots "$seed"; done
            done
        done
    done
else
    make_model odd float16 3
    scored few --tasks copa,openbookqa --shots 1 --examples 2 --criteria all,wanda
    compared "odd float16 1-shot sound" few --examples 4 --mode sound --require wanda
    compared "odd float16 1-shot compat" few --examples 4 --mode compat
    make_model qwen3 bfloat16 3
    rm -f "$tmp/few.h5"
    scored few --tasks copa,openbookqa --shots 1 --examples 2 --criteria all
    compared "qwen3 bfloat16 1-shot sound" few --examples 4 --mode sound
fi
echo "$cases comparisons, $([ $bad = 0 ] && echo "none" || echo "some") far"
exit $bad
