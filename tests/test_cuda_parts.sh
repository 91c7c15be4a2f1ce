#!/bin/sh
# test_cuda_parts - layers shared by several GPUs (CUDA on the CPU, tests/cuda): scores, sweeps and decoding on two and
# three devices, whose kernels cannot touch each other's memory, have the bits of one device, and so have steps replayed
# on devices that can; a model that one device has no room for runs on two; the bytes of opt-66b; recomputed activations
# have the scores of kept ones, and are the way where those have no room.
bin=${BIN:-build/opt/bin} model=tests/golden/opt/pre
. tests/needs.sh
needs_played_cuda
needs_h5py
CU_FAKE_DEVICES=3 CU_FAKE_PROTECT=0
export CU_FAKE_DEVICES CU_FAKE_PROTECT
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$dir/log"; exit 1; }
mkdir -p "$dir/data/copa"
row() { echo "{\"premise\": \"The cat $1 ran.\", \"choice1\": \"It ate.\", \"choice2\": \"It hid then.\", \"question\": \"cause\", \"label\": $(($1 % 2)), \"idx\": $1}"; }
for i in 0 1 2 3 4 5 6 7; do row $i; done >"$dir/data/copa/train.jsonl"
for i in 8 9; do row $i; done >"$dir/data/copa/val.jsonl"  # what sweep evaluates
score() { device=$1 out=$2; shift 2; "$bin/score" --device "$device" --model $model --data "$dir/data" --tasks copa --shots 0 --mode both --out "$out" "$@" >"$dir/log" 2>&1 || fail "score on $device"; }

score cuda:1 "$dir/one.h5" --examples 1 --criteria all
CU_FAKE_STREAMS=5 score cuda:0,1 "$dir/two.h5" --examples 1 --criteria all
grep -q 'layers 0 to 0 are on cuda:0' "$dir/log" && grep -q 'layers 1 to 2 are on cuda:1' "$dir/log" || fail "which layer is where is not printed"
CU_FAKE_STREAMS=eager score cuda:2,0,1 "$dir/three.h5" --examples 1 --criteria all
for store in two three; do $python tests/h5same.py "$dir/one.h5" "$dir/$store.h5" || fail "$store devices make another store"; done
score cuda:1 "$dir/grasp.h5" --examples 1 --criteria grasp
CU_FAKE_PEERS=0 CU_FAKE_PROTECT=1 score cuda:2,1 "$dir/apart.h5" --examples 1 --criteria grasp
$python tests/h5same.py "$dir/grasp.h5" "$dir/apart.h5" || fail "devices that do not reach each other: another store"
score cuda:1 "$dir/removal.h5" --examples 1 --criteria removal --removal-neurons 0
score cuda:1,2 "$dir/removal2.h5" --examples 1 --criteria removal --removal-neurons 0
$python tests/h5same.py "$dir/removal.h5" "$dir/removal2.h5" || fail "two devices: another removal"

# opt-66b in fp16, under masks too, has room on one GPU of 141 GB: its matrices once, two bytes a number
CU_FAKE_MEM=130000000000 "$bin/bench" --device cuda --shape opt-66b --weights fp16 --mask random --prompt 4 --tokens 3 >"$dir/log" 2>&1 && fail "130 GB are enough"
sed -n 's/.*needs \([0-9]*\) bytes.*weights \([0-9.]*\), copies for masks \([0-9.]*\),.*/\1 \2 \3/p' "$dir/log" |
    awk '{E = 9216; F = 36864; w = 2 * (64 * (4 * E * E + 2 * E * F) + (50272 + 2050) * E) / 1e9; n++
          if (!($1 < 141e9 && $2 >= w && $2 < w + 0.2 && $3 == 0)) exit 1} END {exit n != 1}' || fail "the bytes of opt-66b"

# 2000 tokens of the default model; then a device that has room for them recomputed only
model=model/default
CU_FAKE_MEM=1000000000
export CU_FAKE_MEM
score cuda "$dir/kept.h5" --examples 1 --criteria all --batch-tokens 2000 --recompute off
sizes() { sed -n "s/.*: $1 take \([0-9.]*\) of \([0-9.]*\) MiB free$/\1 \2/p" "$dir/log" | head -n 1; }
kept=$(sizes "activations of a batch")
score cuda:0,1 "$dir/again.h5" --examples 1 --criteria all --batch-tokens 2000 --recompute on
$python tests/h5same.py "$dir/kept.h5" "$dir/again.h5" || fail "recomputed activations: another store"
score cuda "$dir/again1.h5" --examples 1 --criteria all --batch-tokens 2000 --recompute on
$python tests/h5same.py "$dir/kept.h5" "$dir/again1.h5" || fail "recomputed activations on one device: another store"
CU_FAKE_MEM=$(echo "$kept $(sizes "activations of a batch") $(sizes "sums of the criteria")" | awk '{ room = ($1 + $3 + $5) / 2; if ($1 < 2 * $3) exit 1; printf "%d", 1e9 - ($2 - room) * 1048576 }') ||
    fail "recomputing takes not even half: $kept, $(sizes "activations of a batch")"
score cuda "$dir/auto.h5" --examples 1 --criteria all --batch-tokens 2000
grep -q 'activations of a batch of 2000 tokens would take [0-9.]* MiB of cuda:0, which has [0-9.]* MiB free: they are recomputed layer by layer (--recompute)$' "$dir/log" || fail "nothing is said about recomputing"
$python tests/h5same.py "$dir/kept.h5" "$dir/auto.h5" || fail "without room: another store"
"$bin/score" --device cuda --model $model --data "$dir/data" --tasks copa --shots 0 --examples 1 --criteria all --mode both --batch-tokens 2000 --recompute off --out "$dir/off.h5" >"$dir/text" 2>"$dir/log" && fail "no room, and not refused"
grep -q 'MiB free; --recompute on takes less, smaller --batch-tokens too$' "$dir/log" && [ ! -e "$dir/off.h5" ] || fail "no clear line"
unset CU_FAKE_MEM
model=tests/golden/opt/pre

score cpu "$dir/more.h5" --examples 8 --criteria snip
"$bin/aggregate" --store "$dir/more.h5" --out "$dir/aggregates.h5" >"$dir/log" 2>&1 || fail "aggregate"
"$bin/train" --store "$dir/more.h5" --model $model --criterion snip --hidden 8 --epochs 2 --out "$dir/predictor.h5" >"$dir/log" 2>&1 || fail "train"
printf '= A cat =\n\nThe cat ran .\n' >"$dir/text.raw"
for device in cuda:1 cuda:0,2; do
    CU_FAKE_PEERS=0 "$bin/sweep" --device $device --model $model --data "$dir/data" --tasks copa --wikitext "$dir/text.raw" --limit 2 --mask none,static,contextual --scores "$dir/aggregates.h5" \
        --predictor "$dir/predictor.h5" --criterion snip --sparsity 50 --refresh 4 --out "$dir/$device.csv" --details "$dir/$device.jsonl" >"$dir/log" 2>&1 || fail "sweep on $device"
    grep -v '^#' "$dir/$device.csv" >"$dir/$device.rows"
    for kv in compute repair skip; do
        protect=0
        [ $kv$device != repaircuda:0,2 ] || protect=1
        CU_FAKE_PEERS=0 CU_FAKE_PROTECT=$protect "$bin/generate" --device $device --model $model --prompt "The cat" --no-bos --tokens 4 --mask contextual --refresh 2 --kv $kv --predictor "$dir/predictor.h5" \
            --criterion snip --sparsity 50 2>"$dir/log" >>"$dir/$device.txt" || fail "generate on $device"
    done
done
[ "$(wc -l <"$dir/cuda:1.rows")" -ge 15 ] && [ -s "$dir/cuda:1.txt" ] || fail "the sweep or the text is empty"
for kind in rows txt jsonl; do cmp "$dir/cuda:1.$kind" "$dir/cuda:0,2.$kind" || fail "two devices: another $kind"; done

# 54 MiB of a device are workspace; the default model has 10.3 MiB of weights
say() { CU_FAKE_MEM=$1 "$bin/generate" --device "$2" --model model/default --prompt "Anna" --tokens 2 >"$dir/text" 2>"$dir/log"; }
say 64000000 cuda && fail "a device without room was not refused"
[ "$(grep -c 'weights take 10.3 MiB of cuda:0 (.*), which has [0-9.]* MiB free; ' "$dir/log")" = 1 ] && [ ! -s "$dir/text" ] || fail "no clear line"
say 64000000 cuda:0,1 || fail "two devices"
[ -s "$dir/text" ] || fail "no text"
for device in cuda:1 cuda:0,1,2; do
    "$bin/generate" --device $device --model model/default --prompt "Anna" --tokens 5 --stats >"$dir/$device.text" 2>"$dir/log" && grep -q '3 of 4 steps were replays of a graph' "$dir/log" || fail "steps on $device are not replayed"
done
cmp "$dir/cuda:1.text" "$dir/cuda:0,1,2.text" || fail "one graph of three devices: another text"
"$bin/generate" --device cuda:0,7 --model model/default --prompt "Anna" >"$dir/log" 2>&1 && fail "a GPU that is not there"
grep -q 'there is no such GPU as cuda:7; this machine has 3' "$dir/log" || fail "no clear line"
echo "test_cuda_parts: several devices have the bits of one"
