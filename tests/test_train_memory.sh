#!/bin/sh
# test_train_memory - peak memory of train does not depend on the number of examples: a store and one of ten times its
# examples, within 10 % (large pages come and go by 2 MiB), and within a factor of 1.5 of what it estimated, whose time
# has that of the reading in it; and bin/bench_train gives a rate for every design's nets.
bin=${BIN:-build/opt/bin} out=$(mktemp -d) few=60 times=10
trap 'rm -rf "$out"' EXIT
ldd "$bin/train" | grep -q libasan && { echo "SKIP test_train_memory: sanitizers take memory of their own"; exit 77; }
. tests/needs.sh
needs_h5py
export OMP_WAIT_POLICY=passive
"$bin/score" --model model/default --data data/world --tasks copa --shots 0 --examples $few --criteria l2_norm --out "$out/few.h5" >/dev/null 2>"$out/log" || { cat "$out/log"; exit 1; }

"$bin/bench_train" --peer none --shape 2x2x8x12x20x64 --tokens 5 --steps 2 --rounds 1 >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
awk '$1 ~ /^(shadow|dejavu|dejavu-lowrank|sequence)$/ && $7 > 0 && NF == 7 {n++} END {exit n != 8}' "$out/log" || { cat "$out/log"; echo "FAIL: rates of eight nets"; exit 1; }
"$bin/bench_train" --design other >"$out/log" 2>&1
[ $? -eq 2 ] && grep -q 'not one of shadow, dejavu' "$out/log" || { cat "$out/log"; echo "FAIL: an unknown design"; exit 1; }

# the store again with every example so many times, each time a document of its own
/usr/bin/python3 - "$out" $times <<'PY' || exit 1
import sys, h5py, numpy
out, times = sys.argv[1], int(sys.argv[2])
with h5py.File(f"{out}/few.h5") as few, h5py.File(f"{out}/many.h5", "w") as many:
    many.attrs.update(few.attrs)
    def copy(name, thing):
        if isinstance(thing, h5py.Group):
            many.require_group(name).attrs.update(thing.attrs)
            return
        data = thing[()]
        if name == "examples/id": data = numpy.array([b"%s-%d" % (i, k) for k in range(times) for i in data])
        elif name == "examples/offset": data = numpy.concatenate([data[:1]] + [data[1:] + k * data[-1] for k in range(times)])
        else: data = numpy.concatenate([data] * times)
        many.create_dataset(name, data=data, chunks=thing.chunks).attrs.update(thing.attrs)
    few.visititems(copy)
PY

# peak STORE DESIGN: MiB, as train prints them; the least of three runs, since how the heap falls out can only add to
# what is needed
peak() {
    for run in 1 2 3; do
        rm -f "$out/$1-$2.h5"
        "$bin/train" --store "$out/$1.h5" --model model/default --criterion l2_norm --design "$2" --hidden 64 --epochs 1 --threads 1 --out "$out/$1-$2.h5" >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
        sed -n 's|^about \([0-9.]*\) s .*(\([0-9.]*\) s of reading included), memory \([0-9]*\) MiB.*|\1 \2 \3|p; s|.* examples/s in training, peak memory \([0-9]*\) MiB$|\1|p' "$out/log" | tr '\n' ' ' |
            awk '{exit !(NF == 4 && $1 >= $2 && $4 <= 1.5 * $3 && $3 <= 1.5 * $4)}' || { cat "$out/log" >&2; echo "FAIL: the estimate" >&2; exit 1; }
        sed -n 's|.* examples/s in training, peak memory \([0-9]*\) MiB$|\1|p' "$out/log"
    done | sort -n | head -n 1
}
for design in shadow dejavu; do
    a=$(peak few $design) b=$(peak many $design)
    echo "$design: $few examples $a MiB, $((few * times)) examples $b MiB"
    awk -v a="$a" -v b="$b" 'BEGIN {exit !(a > 10 && b <= 1.1 * a && b >= 0.9 * a)}' || { echo "FAIL: peak memory differs by more than 10 %"; exit 1; }
done
