#!/bin/sh
# test_programs - every program from the outside: --help names each option and exits 0, a wrong option or name exits 2
# with the valid ones, missing options and wrong values exit 2, a full standard output and an unwritable or full output
# exit 1 with one line and leave nothing behind. Programs are found, not listed: a new one is tested for what all have
# in common.
. tests/expect.sh
trap 'umount "$tmp/disk" 2>/dev/null; rm -rf "$tmp"' EXIT
golden=tests/golden/opt/pre

n=0
for path in "$bin"/*; do
    each=$(basename "$path")
    n=$((n + 1))
    expect 0 "usage: $each" "$each" --help
    cp "$tmp/o" "$tmp/help"
    [ -s "$tmp/e" ] && fail "$each --help writes to stderr"
    grep -q '(default )' "$tmp/help" && fail "$each --help shows an empty default"
    expect 2 "the options are: --" "$each" --no-such-option
    for option in $(sed 's/.*the options are: //' "$tmp/e"); do
        grep -q "^  $option " "$tmp/help" || fail "$each --help does not explain $option"
        [ "$option" = --help ] || { "$bin/$each" "$option" >/dev/null 2>"$tmp/e"; [ $? -ne 139 ] || fail "$each $option crashes"; }
    done
    expect 2 "not an option" "$each" word
    option=$(sed -n 's/^  \(--[a-z-]*\) N .*/\1/p' "$tmp/help" | head -n 1)  # a numeric one
    if [ -n "$option" ]; then
        expect 2 "$option" "$each" "$option" many
        expect 2 "$option: a value is missing" "$each" "$option"
    fi
    for option in $(sed -n 's/^  \(--[a-z-]*\) \(DIR\|FILE\|STORE\).*/\1/p' "$tmp/help"); do expect 2 "$option: an empty name" "$each" "$option" ""; done
    "$bin/$each" --help >&- 2>"$tmp/e"
    [ $? -eq 1 ] && grep -q 'standard output: cannot write' "$tmp/e" || fail "$each: a closed standard output goes unnoticed"
    if [ -w /dev/full ]; then
        "$bin/$each" --help >/dev/full 2>"$tmp/e"
        [ $? -eq 1 ] && grep -q 'standard output: cannot write' "$tmp/e" || fail "$each: a full standard output goes unnoticed"
    fi
done
[ $n -gt 5 ] || fail "$bin holds only $n programs"
grep -q -- "--model" "$tmp/help" || grep -q -- "--out" "$tmp/help" || fail "the help texts are not those of the programs"

# missing options, names, values
for each in info generate aggregate pretrain; do expect 2 "is required" $each; done
expect 2 "--data DIR is wanted" tasks
expect 2 "--encode needs --model" tasks --encode x
expect 2 "--special is of --encode" tasks --data x --special
expect 2 "--model is required" score --data x --out y
expect 2 "--out is required" score --data x --model y
expect 2 "unknown criterion foo; the criteria are: all epenas" score --model x --data x --out x --criteria snip,foo
expect 2 "unknown task foo; the tasks are: piqa copa" score --model x --data x --out x --tasks foo
expect 2 "unknown task foo; the tasks are: piqa copa" sweep --model x --data x --tasks copa,foo
expect 2 "unknown task foo; the tasks are: piqa copa" tasks --data x --tasks foo
expect 2 "unknown criterion foo; the criteria are: all epenas" sweep --model x --data x --tasks copa --criterion foo
expect 2 "not one of sound|compat|both" score --model x --data x --out x --mode exact
expect 2 "outside" score --model x --data x --out x --shots -1
expect 2 "published texts are of the harness of 2022" score --model x --data x --out x --mode compat --harness today
expect 2 "whole number" score --model x --data x --out x --examples ten
expect 2 "outside" pretrain --text x --out x --layers 0

# a text's tokens: their pieces are the text, whatever its bytes; a special token's name is one where that is asked for
printf 'Anna said\n"no" \\ </s>caf\303\251 \377' >"$tmp/text"
for option in "" --special; do
    "$bin/tasks" --model $golden --encode - $option <"$tmp/text" >"$tmp/o" 2>&1 || fail "tasks --encode: $(cat "$tmp/o")"
    env printf '%b' "$(LC_ALL=C sed 's/^[0-9]* |\(.*\)|$/\1/' "$tmp/o" | tr -d '\n')" | cmp -s - "$tmp/text" || fail "pieces: $(cat "$tmp/o")"
    [ "$(grep -c '^2 |</s>|$' "$tmp/o")" = "$([ -z "$option" ] && echo 0 || echo 1)" ] || fail "special tokens: $(cat "$tmp/o")"
done
rm "$tmp/text"

# the pages of a text: all of them are the file, byte for byte; those of two parts are all pages, each once
text=data/world/wikitext/held-out.raw
"$bin/tasks" --wikitext $text | cmp -s - $text || fail "tasks --wikitext: not the text"
titles() { grep -a '^ = [^=].* = $'; }
for part in 1/2 2/2; do "$bin/tasks" --wikitext $text --part $part | titles; done | sort >"$tmp/o"
titles <$text | sort | cmp -s - "$tmp/o" || fail "pages of two parts: $(cat "$tmp/o")"
[ "$("$bin/tasks" --wikitext $text --part 1/2 --show 3 | titles | wc -l)" = 3 ] || fail "tasks --wikitext --show 3"
expect 2 "--wikitext FILE, or --encode" tasks --data x --wikitext $text
expect 1 "nowhere" tasks --wikitext nowhere

# files that are not there or not what they should be
expect 1 "nowhere/config.json: " info --model nowhere
expect 1 "nowhere/config.json: " generate --model nowhere --prompt x
expect 1 "nowhere/config.json: " score --model nowhere --data data/world --out "$tmp/x.h5"
expect 1 "nowhere" score --model $golden --data nowhere --tasks copa --out "$tmp/x.h5"
expect 1 "nowhere.h5" aggregate --store nowhere.h5 --out "$tmp/x.h5"
expect 1 "README.md: not an HDF5 file" aggregate --store README.md --out "$tmp/x.h5"
expect 1 "nowhere" tasks --data nowhere --tasks copa
expect 1 "nowhere" sweep --model $golden --wikitext nowhere
expect 1 "nowhere" pretrain --text nowhere --out "$tmp/x"
expect 1 "nowhere" world --check nowhere
expect 1 "/proc/nowhere" world --out /proc/nowhere
expect 1 "/proc/nowhere" pretrain --text tests/golden/tok --out /proc/nowhere
[ -z "$(find "$tmp" -type f ! -name o ! -name e ! -name help)" ] || fail "a refused command left $(ls "$tmp")"

# closed standard descriptors are not given to a result
for closed in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
    rm -f "$tmp/c.csv"
    eval '"$bin/sweep" --model model/default --data data/world --tasks copa --limit 2 --out "$tmp/c.csv" >/dev/null 2>&1 '"$closed"
    expect 0 "3 values, all of them present in $tmp/c.csv" sweep --model model/default --data data/world --tasks copa --limit 2 --out "$tmp/c.csv"
done
rm "$tmp/c.csv"

# a checkpoint of another tokenizer, a weight that is not a number: every program that loads a model refuses it
mkdir "$tmp/wrong" "$tmp/nan"
cp $golden/* "$tmp/wrong" && cp model/default/vocab.json model/default/merges.txt "$tmp/wrong"
for command in "info" "generate --prompt x" "score --data data/world --tasks copa --out $tmp/x.h5" "sweep --data data/world --tasks copa"; do
    # shellcheck disable=SC2086
    expect 1 "is this the tokenizer of another model?" ${command%% *} --model "$tmp/wrong" $(echo "$command" | cut -s -d ' ' -f 2-)
done
cp $golden/* "$tmp/nan" && python=/usr/bin/python3
$python - "$tmp/nan/model.safetensors" <<'PY'
import struct, sys
raw = bytearray(open(sys.argv[1], "rb").read())
raw[-4:] = struct.pack("<f", float("nan"))
open(sys.argv[1], "wb").write(raw)
PY
for command in "info" "generate --prompt x" "score --data data/world --tasks copa --out $tmp/x.h5" "sweep --data data/world --tasks copa"; do
    # shellcheck disable=SC2086
    expect 1 "NaN" ${command%% *} --model "$tmp/nan" $(echo "$command" | cut -s -d ' ' -f 2-)
done

# a disk that is really full, where one can be mounted: everything that writes files fails with a line and leaves
# nothing that looks whole
mkdir "$tmp/disk"
if mount -t tmpfs -o size=64k tmpfs "$tmp/disk" 2>/dev/null; then
    # full FREE PROGRAM ARGUMENT... : with so many KiB free
    full() {
        rm -rf "$tmp"/disk/*
        head -c $((65536 - $1 * 1024)) /dev/zero >"$tmp/disk/fill"
        shift
        "$bin/$@" >"$tmp/o" 2>"$tmp/e"
        [ $? -eq 1 ] || fail "$*: a full disk goes unnoticed"
        [ "$(grep -c 'cannot write\|No space left' "$tmp/e")" = 1 ] || fail "$*: a full disk is not named once: $(tail -n 3 "$tmp/e")"
        left=$(find "$tmp/disk" -type f ! -name fill ! -path '*.parts/*' ! -name vocab.json ! -name merges.txt ! -name config.json ! -name train.csv)
        [ -z "$left" ] || fail "$*: left behind: $left"
    }
    for free in 0 16 40; do
        full $free score --model model/default --data data/world --tasks copa --shots 0 --examples 4 --criteria snip,l2_norm --out "$tmp/disk/scores.h5"
    done
    "$bin/score" --model model/default --data data/world --tasks copa --shots 0 --examples 4 --criteria snip,l2_norm --out "$tmp/scores.h5" >/dev/null 2>&1
    for free in 0 40; do full $free aggregate --store "$tmp/scores.h5" --out "$tmp/disk/aggregates.h5"; done
    full 0 aggregate --store "$tmp/scores.h5" --out "$tmp/aggregates.h5" --csv "$tmp/disk"
    full 40 world --out "$tmp/disk/world"
    for free in 0 20; do
        full $free pretrain --text tests/golden/tok --vocab 300 --layers 1 --heads 2 --hidden 32 --ffn 64 --positions 32 --batch 64 --tokens 64 --out "$tmp/disk"
    done
    head -c 65536 /dev/zero >"$tmp/disk/fill" 2>/dev/null
    "$bin/sweep" --model model/default --data data/world --tasks copa --limit 2 --out "$tmp/disk/sweep.csv" >"$tmp/o" 2>"$tmp/e"
    [ $? -eq 1 ] || fail "sweep: a full disk goes unnoticed"
    grep -q 'cannot write\|No space left' "$tmp/e" || fail "sweep: a full disk is not named: $(tail -n 1 "$tmp/e")"
    rm "$tmp/disk/fill"
    "$bin/sweep" --model model/default --data data/world --tasks copa --limit 2 --out "$tmp/disk/sweep.csv" >"$tmp/o" 2>"$tmp/e" || fail "sweep does not go on after a full disk: $(tail -n 1 "$tmp/e")"
    "$bin/sweep" --model model/default --data data/world --tasks copa --limit 2 --out "$tmp/sweep.csv" >/dev/null 2>&1
    grep -v '^#' "$tmp/disk/sweep.csv" >"$tmp/1"
    grep -v '^#' "$tmp/sweep.csv" | cmp -s - "$tmp/1" || fail "after a full disk a sweep's rows differ"
else
    echo "SKIP: no file system can be mounted here; the full disk is a limit on file sizes only (test_score, test_base)"
fi
[ $bad = 0 ] && echo "$n programs, all passed"
exit $bad
