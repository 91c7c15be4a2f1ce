#!/bin/sh
# test_cuda_faults - exhausted memory, a failed copy, launch or graph, a lost device (CU_FAKE_FAIL of CUDA on the CPU)
# at every place that calls CUDA, in a run that extends a store of scores, in one that decodes under predicted masks and
# in one that trains a predictor: each ends with exit 1 and one line that names the device and the call; the store is as
# it was, byte for byte, there is no half a predictor, and the same command without the fault ends with the store or
# predictor that a run without faults makes.
bin=${BIN:-build/opt/bin} model=tests/golden/opt/pre
. tests/needs.sh
needs_played_cuda
needs_h5py
CU_FAKE_PROTECT=0
export CU_FAKE_PROTECT bin model
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
exec "$bin/generate" --device cuda --model $model --prompt "The cat" --no-bos --tokens 5 --mask contextual --refresh 3 --predictor "$dir/p.h5" --sparsity 50 --threads 1
SH
cat >"$dir/train" <<'SH'
exec "$bin/train" --device cuda --store "$dir/six.h5" --model $model --criterion snip --design sequence --hidden 4 --epochs 2 --save-every 0 --threads 1 "$@"
SH
sh "$dir/score" --examples 1 --out "$dir/one.h5" >"$dir/log" 2>&1 || fail "$(cat "$dir/log")"
"$bin/score" --model $model --data "$dir/data" --tasks copa --shots 0 --criteria snip --out "$dir/six.h5" >"$dir/log" 2>&1 || fail "$(cat "$dir/log")"
"$bin/train" --store "$dir/six.h5" --model $model --criterion snip --hidden 4 --epochs 1 --out "$dir/p.h5" >"$dir/log" 2>&1 || fail "$(cat "$dir/log")"
cp "$dir/one.h5" "$dir/want.h5"
CU_FAKE_FAIL=list sh "$dir/score" --examples 2 --out "$dir/want.h5" >/dev/null 2>"$dir/sites" || fail "$(cat "$dir/sites")"
CU_FAKE_FAIL=list sh "$dir/generate" >/dev/null 2>"$dir/more" || fail "$(cat "$dir/more")"
CU_FAKE_FAIL=list sh "$dir/train" --out "$dir/want_p.h5" >/dev/null 2>"$dir/train_sites" || fail "$(cat "$dir/train_sites")"
# score's faults, then those at places where only generate comes by, and at every second one of train; a device is lost
# at every second place
awk '$1 !~ /^[a-z]+:[0-9]+$/ || NF != 2 || seen[$2]++ || ($1 ~ /^lost/ && lost++ % 2) || (FILENAME ~ /train_sites$/ && train++ % 2) {next} {print (FILENAME ~ /more$/ ? "generate" : FILENAME ~ /train_sites$/ ? "train" : "score"), $1}' \
    "$dir/sites" "$dir/more" "$dir/train_sites" >"$dir/faults"
for program in score generate train; do grep -q "^$program " "$dir/faults" || fail "no fault of $program"; done
for kind in malloc pinned copy launch graph lost; do grep -q " $kind:" "$dir/faults" || fail "no $kind in the list of calls"; done
[ "$(wc -l <"$dir/faults")" -ge 100 ] || fail "only $(wc -l <"$dir/faults") places call CUDA"

cat >"$dir/inject" <<'SH'
# PROGRAM FAULT: the fault ends the program as it should, or a line says what was wrong
program=$1 fault=$2 log=$dir/$1.$2 store=$dir/store.$2 predictor=$dir/predictor.$2.h5
cp "$dir/one.h5" "$store"
case $program in
score) set -- --examples 2 --out "$store" ;;
train) set -- --out "$predictor" ;;
*) set -- ;;
esac
CU_FAKE_FAIL=$fault sh "$dir/$program" "$@" >/dev/null 2>"$log"
code=$?
lines=$(grep -v 'MiB free$' "$log" | grep -c .)
if [ $code = 1 ] && [ "$lines" = 1 ] && tail -n 1 "$log" | grep -q "^$program: .*cuda:0.*: "; then
    [ ! -e "$predictor" ] || echo "$program, $fault: a predictor is there"
else echo "$program, $fault: exit $code: $(cat "$log")"
fi
cmp -s "$dir/one.h5" "$store" || echo "$program, $fault: the store has changed"
unset CU_FAKE_FAIL
case $program$fault in
score*[37]) sh "$dir/score" "$@" >"$log" 2>&1 || echo "$fault: the run does not go on: $(tail -n 1 "$log")" ;;
train*[37]) sh "$dir/train" "$@" >"$log" 2>&1 || echo "$fault: the training does not go on: $(tail -n 1 "$log")" ;;
esac
case $program$fault in
score*[37]) ;;
*) rm -rf "$store" "$store".* ;;
esac
SH
xargs -P 2 -n 2 sh "$dir/inject" <"$dir/faults" >"$dir/wrong"
[ ! -s "$dir/wrong" ] || { head -n 20 "$dir/wrong"; fail "$(wc -l <"$dir/wrong") lines"; }
resumed=0
for made in "$dir"/store.* "$dir"/predictor.*.h5; do
    [ -e "$made" ] || continue
    case $made in
    */store.*) $python tests/h5same.py "$dir/want.h5" "$made" || fail "$made: the run that went on made another store" ;;
    *) $python tests/h5same.py "$dir/want_p.h5" "$made" || fail "$made: the training that went on made another predictor" ;;
    esac
    resumed=$((resumed + 1))
done
[ $resumed -ge 8 ] || fail "$resumed runs went on"
echo "test_cuda_faults: $(wc -l <"$dir/faults") faults, $(grep -c '^train' "$dir/faults") of them in training, $resumed runs gone on with"
