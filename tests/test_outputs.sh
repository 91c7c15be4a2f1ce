#!/bin/sh
# test_outputs - where results go. A full standard output ends every program with 1 and one line. A folder, a file of
# another kind or an HDF5 file as the name of a result is refused with one line, and stays as it is; a pipe or a device
# gets the text. HDF5 files written with a filter that the library lacks (h5py's lzf) are named with the filter.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=tests/golden/llama/llama data=data/world
sweep="--data $data --tasks copa --limit 1 --over-long cut --mask none"
"$bin/score" --model $model --data $data --tasks copa --shots 0 --examples 6 --criteria snip --over-long cut --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
"$bin/aggregate" --store "$tmp/s.h5" --out "$tmp/a.h5" >/dev/null 2>"$tmp/e" || fail "aggregate: $(cat "$tmp/e")"
"$bin/train" --store "$tmp/s.h5" --model $model --criterion snip --epochs 1 --hidden 4 --out "$tmp/p.h5" >/dev/null 2>"$tmp/e" || fail "train: $(cat "$tmp/e")"
"$bin/prune" --model $model --mask random --out "$tmp/small" >/dev/null 2>"$tmp/e" || fail "prune: $(cat "$tmp/e")"
"$bin/sweep" --model $model $sweep,random --sparsity 50 --out "$tmp/w.csv" --details "$tmp/w.jsonl" >/dev/null 2>"$tmp/e" || fail "sweep: $(cat "$tmp/e")"
mkdir "$tmp/folder"

# full PROGRAM ARGUMENT... : with a full standard output
full() {
    "$bin/$@" >/dev/full 2>"$tmp/e"
    got=$?
    [ $got -eq 1 ] && [ "$(grep -c 'standard output: cannot write' "$tmp/e")" -eq 1 ] || fail "$* to a full output: exit $got, $(tail -n 2 "$tmp/e")"
}
if [ -w /dev/full ]; then
    full info --model $model
    full tasks --data $data
    full score --list
    full score --model $model --data $data --tasks copa --shots 0 --examples 6 --criteria snip --over-long cut --out "$tmp/s.h5"
    full score --model $model --data $data --tasks copa --shots 0 --examples 7 --criteria snip --over-long cut --out "$tmp/s7.h5"
    full aggregate --store "$tmp/s.h5" --out "$tmp/b.h5"
    full train --store "$tmp/s.h5" --model $model --criterion snip --epochs 1 --hidden 4 --out "$tmp/p.h5"
    full train --store "$tmp/s.h5" --model $model --criterion snip --epochs 1 --hidden 4 --out "$tmp/p2.h5"
    full sweep --model $model $sweep
    full verify --model $model --mask random --sparsity 50 --inputs 1 --context 6 --steps 1
    full bench --model $model --mask none --prompt 4 --tokens 2 --rounds 1
    full prune --model $model --mask random --out "$tmp/small2"
    full generate --model $model --prompt a --tokens 2
    full costs
    full compare --details "$tmp/w.jsonl" --a mask=none --b mask=random --match mode
    full tables --select "$tmp/w.csv" --where metric=acc
    full bench_train --shape 1x2x16x32x100x64 --steps 1 --rounds 1 --peer none --design shadow
fi
"$bin/sweep" --model $model $sweep >&- 2>"$tmp/e"
[ $? -eq 1 ] && tail -n 1 "$tmp/e" | grep -q 'standard output: cannot write: Bad file descriptor' || fail "sweep, no output: $(cat "$tmp/e")"

# refused WHAT PROGRAM ARGUMENT... with --out, --details and so on of $1: its bytes stay
refused() {
    kept=$1 said=$2
    shift 2
    before=$(stat -c '%i %s %Y' "$kept")
    "$bin/$@" >"$tmp/o" 2>"$tmp/e"
    got=$?
    [ $got -eq 1 ] && [ "$(grep -cF "$kept" "$tmp/e")" -eq 1 ] && grep -qF "$said" "$tmp/e" || fail "$*: exit $got, wanted \"$said\": $(tail -n 2 "$tmp/e")"
    [ "$(stat -c '%i %s %Y' "$kept")" = "$before" ] || fail "$*: $kept has changed"
    [ -e "$kept.tmp" ] && fail "$*: $kept.tmp is left"
}
echo "# notes, no line feed at the end" >"$tmp/notes" && printf 'last line' >>"$tmp/notes"
echo '{"text": "a line of JSON"}' >"$tmp/data.jsonl"
train="train --store $tmp/s.h5 --model $model --criterion snip --epochs 1 --hidden 4"
score="score --model $model --data $data --tasks copa --shots 0 --examples 6 --criteria snip --over-long cut"
for path in folder notes p.h5 small/mask.h5; do
    refused "$tmp/$path" "" $score --out "$tmp/$path"
    refused "$tmp/$path" "" aggregate --store "$tmp/s.h5" --out "$tmp/$path"
    refused "$tmp/$path" "" sweep --model $model $sweep --out "$tmp/$path"
    refused "$tmp/$path" "" sweep --model $model $sweep --out "$tmp/x.csv" --details "$tmp/$path"
    refused "$tmp/$path" "" bench --model $model --mask none --prompt 4 --tokens 2 --rounds 1 --out "$tmp/$path"
    refused "$tmp/$path" "" $train --predictions "$tmp/$path" --out "$tmp/y.h5"
    [ "$path" = p.h5 ] || refused "$tmp/$path" "" $train --out "$tmp/$path"
    refused "$tmp/$path" "exists" prune --model $model --mask random --out "$tmp/$path"
done
for path in folder p.h5; do  # texts that are written again each time
    refused "$tmp/$path" "cannot write" $train --curve "$tmp/$path" --out "$tmp/y.h5"
    refused "$tmp/$path" "cannot write" $train --metrics "$tmp/$path" --out "$tmp/y.h5"
    refused "$tmp/$path" "cannot write" costs --out "$tmp/$path"
    refused "$tmp/$path" "cannot write" report --in results/published --spec experiments/paper/report.json --out "$tmp/$path"
done
refused "$tmp/s.h5" "not made by bin/train" $train --out "$tmp/s.h5"
refused "$tmp/data.jsonl" "not a file of details" sweep --model $model $sweep --out "$tmp/x.csv" --details "$tmp/data.jsonl"
[ -e "$tmp/y.h5" ] && fail "a training that was refused has written its file"

# a pipe gets what the file would; HDF5, and files that are added to, need a file
mkfifo "$tmp/pipe"
# piped PROGRAM ARGUMENT... with the name of its text as the last argument
piped() {
    "$bin/$@" "$tmp/text" >/dev/null 2>"$tmp/e" || fail "$*: $(cat "$tmp/e")"
    timeout 20 cat "$tmp/pipe" >"$tmp/got" &
    "$bin/$@" "$tmp/pipe" >/dev/null 2>"$tmp/e" || fail "$* into a pipe: $(cat "$tmp/e")"
    wait $!
    grep -v '^#' "$tmp/text" >"$tmp/want"
    grep -v '^#' "$tmp/got" | cmp -s - "$tmp/want" && [ -p "$tmp/pipe" ] || fail "$*: not the same text in a pipe"
}
echo '{"context": "a", "continuation": " b"}' >"$tmp/requests.jsonl"
piped costs --shape opt-125m --out
piped tables --select "$tmp/w.csv" --where metric=acc --out
piped sweep --model $model --mask none --requests "$tmp/requests.jsonl" --out
ln -s want "$tmp/link"
"$bin/costs" --shape opt-125m --out "$tmp/link" 2>"$tmp/e" && [ -L "$tmp/link" ] && grep -q opt-125m "$tmp/want" || fail "costs --out: a link is lost, $(cat "$tmp/e")"
refused "$tmp/pipe" "not a regular file" $score --out "$tmp/pipe"
refused "$tmp/pipe" "not a regular file" aggregate --store "$tmp/s.h5" --out "$tmp/pipe"
refused "$tmp/pipe" "not a regular file" $train --out "$tmp/pipe"
refused "$tmp/pipe" "not a regular file" $train --predictions "$tmp/pipe" --out "$tmp/y.h5"
refused "$tmp/pipe" "not a regular file" sweep --model $model $sweep --out "$tmp/pipe"
expect 1 "$tmp/pipe: not a regular file" aggregate --store "$tmp/pipe" --out "$tmp/x.h5"
expect 1 "$tmp/pipe: not a regular file" prune --model $model --mask "file:$tmp/pipe" --out "$tmp/x"

# lzf; h5py stores what it cannot make smaller without the filter, so the numbers are made equal
/usr/bin/python3 - "$tmp" <<'PY' || fail "writing the files"
import sys, h5py, numpy as np
tmp = sys.argv[1]
def again(name, to):
    with h5py.File(f"{tmp}/{name}") as a, h5py.File(f"{tmp}/{to}", "w") as b:
        b.attrs.update(a.attrs)
        def copy(path, x):
            if isinstance(x, h5py.Dataset):
                kept = {"compression": "lzf"} if x.ndim > 1 else {}
                b.create_dataset(path, data=np.ones_like(x[()]) if kept else x[()], dtype=x.dtype, **kept)
            else:
                b.require_group(path)
            b[path].attrs.update(x.attrs)
        a.visititems(copy)
again("s.h5", "lzf.h5"), again("a.h5", "lzf_a.h5"), again("small/mask.h5", "lzf_mask.h5")
PY
lzf="is compressed by the filter lzf (number 32000), which the HDF5 library here lacks; write the file again with gzip"
expect 1 "/scores/snip/heads $lzf" aggregate --store "$tmp/lzf.h5" --out "$tmp/x.h5"
expect 1 "$lzf" train --store "$tmp/lzf.h5" --model $model --criterion snip --epochs 1 --hidden 4 --out "$tmp/z.h5"
expect 1 "$lzf" sweep --model $model --data $data --tasks copa --limit 1 --mask static --scores "$tmp/lzf_a.h5" --criterion snip
expect 1 "$lzf" prune --model $model --mask "file:$tmp/lzf_mask.h5" --out "$tmp/x"
exit $bad
