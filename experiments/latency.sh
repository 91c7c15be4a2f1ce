#!/bin/sh
# latency.sh [OUT] - the settings of ShadowLLM's published latency table (OPT-1.3B to 66B, fp16 random weights, batch 1, a prompt of 128 tokens and 128 after
# it, heads and neurons pruned) by bin/bench on a machine with GPUs: dense, real static masks, and contextual masks made again at every token by one
# predictor (shadow) or one per layer (dejavu), of rank 2048 as published. Appends to OUT/latency.csv; what is there is not timed again.
# The published times share each matrix over GPUs, these the layers: more GPUs give room, not speed. Published tables also draw the indices of "static"
# with repeats, leave K and V of pruned heads unrepaired, have no dense row, and divide by 5 twice in the figures: ratios to dense are what to compare.
# GPUS="cuda:0 cuda:0,1 ..." gives the device of each of the five models in turn; SHAPES and TOKENS cut it short.
set -eu
bin=${BIN:-bin} out=${1:-results/latency} gpus=${GPUS:-cuda:0 cuda:0 cuda:0 cuda:0,1 cuda:0,1,2,3}
mkdir -p "$out"
bench() { "$bin/bench" --weights fp16 --mask none,static,contextual --design shadow,dejavu --hidden "${RANK:-2048}" --refresh 1 --scope local --units both --kv repair --out "$out/latency.csv" "$@"; }
set -- $gpus
for shape in ${SHAPES:-opt-1.3b opt-6.7b opt-13b opt-30b opt-66b}; do
    device=$1
    [ $# -eq 1 ] || shift
    bench --shape "$shape" --device "$device" --prompt "${PROMPT:-128}" --tokens "${TOKENS:-128}" --sparsity 50
    [ "$shape" != opt-30b ] || bench --shape "$shape" --device "$device" --prompt 128 --tokens 128 --sparsity 0,10,20,30,40,60,70,80,90
    [ "$shape" != opt-30b ] || bench --shape "$shape" --device "$device" --prompt 128 --tokens 32,64,256 --sparsity 50
done
