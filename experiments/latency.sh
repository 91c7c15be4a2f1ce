#!/bin/sh
# latency.sh [OUT] - the settings of ShadowLLM's published times (OPT-1.3B to 66B, fp16 random weights, batch 1, a
# prompt of 128 tokens and 128 after it, heads and neurons pruned) by bin/bench: dense, real static masks, and
# contextual masks made again at every token by one predictor (shadow) or one per layer (dejavu), of rank 2048 as
# published. OUT/bench.csv gets the rows; what is there is not timed again. The rows of each figure:
# OUT/time_sparsity.csv and time_length.csv of the first shape, time_size.csv of all. A shape that is too large for
# the memory is left out, in one line that says so. The published times share each matrix over GPUs, these the layers:
# more GPUs give room, not speed. Published tables also draw the indices of "static" with repeats, leave K and V of
# pruned heads unrepaired, have no dense row, and divide by 5 twice in the figures: ratios to dense are what to
# compare. SHAPES, the first of which is timed over sparsity and length; SPARSITIES and LENGTHS, those of the first
# shape; TOKENS, PROMPT, RANK, ROUNDS, WEIGHTS; DEVICE (cpu, cuda, ..) for all shapes, or GPUS="cuda:0 cuda:0,1 ..."
# for each in turn.
set -u
bin=${BIN:-bin} out=${1:-results/latency} shapes=${SHAPES:-opt-30b opt-1.3b opt-6.7b opt-13b opt-66b}
prompt=${PROMPT:-128} tokens=${TOKENS:-128} first=${shapes%% *}
gpus=${DEVICE:-${GPUS:-cuda:0,1 cuda:0 cuda:0 cuda:0 cuda:0,1,2,3}}
mkdir -p "$out" || exit 1
log=$out/latency.log failed=0
bench() {
    "$bin/bench" --shape "$shape" --device "$device" --weights "${WEIGHTS:-fp16}" --mask none,static,contextual \
        --design shadow,dejavu --hidden "${RANK:-2048}" --refresh 1 --scope local --units both --kv repair \
        --prompt "$prompt" --rounds "${ROUNDS:-3}" --out "$out/bench.csv" "$@" 2>"$log"
}
set -- $gpus
for shape in $shapes; do
    device=$1
    [ $# -eq 1 ] || shift
    if bench --tokens "$tokens" --sparsity 50 && { [ "$shape" != "$first" ] || {
        bench --tokens "$tokens" --sparsity "${SPARSITIES:-0,10,20,30,40,60,70,80,90}" &&
            bench --tokens "${LENGTHS:-32,64,256}" --sparsity 50
    }; }; then continue; fi
    echo "$shape: not timed: $(tail -n 1 "$log")" >&2
    grep -q "bytes of memory" "$log" || failed=1
done
rm -f "$log"
[ -e "$out/bench.csv" ] || exit 1
for figure in "sparsity:model=$first,tokens=$tokens" "length:model=$first,sparsity=0|50" \
    "size:tokens=$tokens,sparsity=0|50"; do
    "$bin/tables" --select "$out/bench.csv" --where "model_hash=,prompt=$prompt,${figure#*:}" \
        --out "$out/time_${figure%%:*}.csv" || failed=1
done
exit $failed
