#!/bin/sh
# test_oracle [opt|llama|FAMILY-KIND [SEED ...]] - bin/score against ../shared/oracle/oracle.py, an independent float64
# PyTorch statement of the model and of every criterion: random checkpoints, scored, recomputed and compared; a line
# that begins with FAR fails. Without an argument: two small cases. opt (make oracle): pre-LN, post-LN with projection
# and odd sizes; llama: the kinds of that family; each stored as float32, float16 and bfloat16, 0 and 5 shots, both
# formulas of OPT, epenas and removal (oracle_cases.py). One kind alone: opt-post, llama-qwen2.
# PYTHON: an interpreter with torch, numpy and h5py. JOBS: checkpoints at a time (2).
oracle=../shared/oracle data=../shared/data PYTHON=${PYTHON:-python3}
[ -f $oracle/oracle.py ] && [ -d $data ] || { echo "SKIP: no $oracle and $data"; exit 77; }
"$PYTHON" -c 'import torch, numpy, h5py' 2>/dev/null || { echo "SKIP: $PYTHON has no torch, numpy and h5py (set PYTHON)"; exit 77; }

opts="pre post odd" kinds="llama mistral qwen2 qwen3 relu"
of_family=small
case ${1:-} in
'') ;;
opt) of_family=$opts ;;
llama) of_family=$kinds ;;
*)
    of_family=
    for kind in $opts; do [ "$1" = "opt-$kind" ] && of_family=$kind; done
    for kind in $kinds; do [ "$1" = "llama-$kind" ] && of_family=$kind; done
    [ -n "$of_family" ] || { echo "test_oracle: $1: not one of opt, llama, or a kind of these, such as llama-qwen2" >&2; exit 2; }
    ;;
esac
[ $# -gt 0 ] && shift
commas() { echo "$*" | tr ' ' ,; }
[ $# -gt 0 ] || set -- 1
exec "$PYTHON" tests/oracle_cases.py "${BIN:-bin}/score" $oracle $data "$(commas $of_family)" "$(commas "$@")"
