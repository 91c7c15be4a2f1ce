#!/bin/sh
# test_cuda_faults - exhausted memory, a failed copy or launch, a lost device (CU_FAKE_FAIL of CUDA on the CPU) at every place that calls CUDA, in a
# run that extends a store of scores and in one that decodes with pruned units: each ends with exit 1 and one line that names the device and the
# call; the store is as it was, byte for byte, and the same command without the fault goes on to the store that a run without faults makes.
bin=${BIN:-build/opt/bin} model=tests/golden/opt/pre python=/usr/bin/python3
KIT_CUDA=${KIT_CUDA:-$(dirname "$bin")/shim/libkit_cuda.so} CU_FAKE_PROTECT=0 CUH_THREADS=1
export KIT_CUDA CU_FAKE_PROTECT CUH_THREADS bin model
[ -e "$KIT_CUDA" ] || { echo "SKIP test_cuda_faults: $KIT_CUDA is not built: CUDA's headers are not there"; exit 77; }
$python -c 'import h5py, numpy' 2>/dev/null || { echo "SKIP test_cuda_faults: /usr/bin/python3 has no h5py or numpy"; exit 77; }
dir=$(mktemp -d) || exit 1
export dir
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

mkdir -p "$dir/data/copa"
for i in 0 1 2 3 4 5; do
    echo "{\"premise\": \"The cat $i ran.\", \"choice1\": \"It ate.\", \"choice2\": \"It hid then.\", \"question\": \"cause\", \"label\": $((i % 2)), \"idx\": $i}"
done >"$dir/data/copa/train.jsonl"
cat >"$dir/score" <<'SH'
exec "$bin/score" --device cuda --model $model --data "$dir/data" --tasks copa --shots 0 --batch-tokens 20 --criteria all --mode both --threads 1 "$@"
SH
cat >"$dir/generate" <<'SH'
exec "$bin/generate" --device cuda --model $model --prompt "The cat" --no-bos --tokens 3 --mask static --scores "$dir/aggregates.h5" --criterion snip --sparsity 50 --threads 1
SH
sh "$dir/score" --examples 1 --out "$dir/one.h5" >"$dir/log" 2>&1 && "$bin/aggregate" --store "$dir/one.h5" --out "$dir/aggregates.h5" >>"$dir/log" 2>&1 || fail "$(cat "$dir/log")"
cp "$dir/one.h5" "$dir/want.h5"
CU_FAKE_FAIL=list sh "$dir/score" --examples 2 --out "$dir/want.h5" >/dev/null 2>"$dir/sites" || fail "$(cat "$dir/sites")"
CU_FAKE_FAIL=list sh "$dir/generate" >/dev/null 2>"$dir/more" || fail "$(cat "$dir/more")"
# score's faults, then those at places where only generate comes by; a device is lost at every second place
awk '$1 !~ /^[a-z]+:[0-9]+$/ || NF != 2 || seen[$2]++ || ($1 ~ /^lost/ && lost++ % 2) {next} {print (FILENAME ~ /more$/ ? "generate" : "score"), $1}' "$dir/sites" "$dir/more" >"$dir/faults"
for kind in malloc pinned copy launch lost; do grep -q " $kind:" "$dir/faults" || fail "no $kind in the list of calls"; done
[ "$(wc -l <"$dir/faults")" -ge 100 ] || fail "only $(wc -l <"$dir/faults") places call CUDA"

cat >"$dir/inject" <<'SH'
# PROGRAM FAULT: the fault ends the program as it should, or a line says what was wrong
log=$dir/$1.$2 store=$dir/store.$2
cp "$dir/one.h5" "$store"
[ $1 = generate ] || set -- $1 $2 --examples 2 --out "$store"
program=$1 fault=$2
shift 2
CU_FAKE_FAIL=$fault sh "$dir/$program" "$@" >/dev/null 2>"$log"
code=$?
lines=$(grep -v 'MiB free$' "$log" | grep -c .)
[ $code = 1 ] && [ "$lines" = 1 ] && tail -n 1 "$log" | grep -q "^$program: .*cuda:0.*: " || echo "$program, $fault: exit $code: $(cat "$log")"
cmp -s "$dir/one.h5" "$store" || echo "$program, $fault: the store has changed"
case $program$fault in
score*[37]) unset CU_FAKE_FAIL; sh "$dir/score" "$@" >"$log" 2>&1 || echo "$fault: the run does not go on: $(tail -n 1 "$log")" ;;
*) rm -rf "$store" "$store".* ;;
esac
SH
xargs -P 2 -n 2 sh "$dir/inject" <"$dir/faults" >"$dir/wrong"
[ ! -s "$dir/wrong" ] || { head -n 20 "$dir/wrong"; fail "$(wc -l <"$dir/wrong") lines"; }
resumed=0
for store in "$dir"/store.*; do
    [ -e "$store" ] || continue
    $python tests/h5same.py "$dir/want.h5" "$store" || fail "$store: the run that went on made another store"
    resumed=$((resumed + 1))
done
[ $resumed -ge 5 ] || fail "$resumed runs went on"
echo "test_cuda_faults: $(wc -l <"$dir/faults") faults, $resumed runs gone on with"
