#!/bin/sh
# test_from_hub - data/from_hub.py on parquet files that tests/hub_files.py makes of the default task sets: the folder
# that it writes gives the same documents as theirs, of every task, from every way in which the hub's files lie;
# WikiText-2 comes out as its authors published it; each fault is one line; data/download.sh takes a set from the hub
# where its authors do not answer. Needs a Python with pyarrow (PYTHON).
. tests/expect.sh
python=${PYTHON:-python3}
if ! "$python" -c 'import pyarrow' 2>/dev/null; then
    "$python" data/from_hub.py "$tmp" >"$tmp/o" 2>"$tmp/e" && fail "without pyarrow it exits with 0"
    [ "$(wc -l <"$tmp/e")" -eq 1 ] && grep -q 'venv/bin/pip install pyarrow' "$tmp/e" || fail "pyarrow is missing: $(cat "$tmp/e")"
    [ $bad -eq 0 ] || exit 1
    echo "SKIP test_from_hub: $python has no pyarrow; PYTHON names one that has"
    exit 77
fi
raw=../shared/data/wikitext2/wiki.valid.raw
[ -f $raw ] || { echo "SKIP WikiText-2: $raw is not there"; raw=; }
"$python" tests/hub_files.py "$tmp" data/world $raw || fail "hub_files.py"
hub() { "$python" data/from_hub.py "$@" >"$tmp/o" 2>"$tmp/e"; }

# what bin/tasks shows of both, candidates, right answers and few-shot examples included
hub "$tmp/hub" || fail "a folder of downloads: $(cat "$tmp/e")"
hub "$tmp/cache" "$tmp/hub" || fail "a cache: $(cat "$tmp/e")"
for from in data/world "$tmp/hub"; do
    "$bin/tasks" --data "$from" --tasks all --show 12 --shots 3 | grep -v ' rows  \|^tasks: ' >"$tmp/documents" || fail "tasks --data $from"
    mv "$tmp/documents" "$tmp/$(basename "$from").txt"
done
[ "$(wc -l <"$tmp/world.txt")" -gt 800 ] && cmp "$tmp/world.txt" "$tmp/hub.txt" || fail "other documents: $(diff "$tmp/world.txt" "$tmp/hub.txt" | head -n 4)"
for task in piqa copa openbookqa winogrande rte hellaswag arc_easy; do
    [ "$(wc -l <"$tmp/hub/$task/train.jsonl") $(wc -l <"$tmp/hub/$task/val.jsonl")" = "600 300" ] || fail "$task: rows"
done
[ "$(ls "$tmp/hub/rte")" = "test.jsonl
train.jsonl
val.jsonl" ] || fail "rte: $(ls "$tmp/hub/rte")"
[ -z "$raw" ] || cmp $raw "$tmp/hub/wikitext2/wiki.valid.raw" || fail "WikiText-2 is not as it was published"
[ ! -e "$tmp/hub/mrpc" ] || fail "mrpc is none of the tasks"
hub "$tmp/hub" || fail "once more: $(cat "$tmp/e")"
grep -q 'rte/test.jsonl: 300 rows, labels are hidden (-1 or empty): can be listed, not scored' "$tmp/o" || fail "hidden labels: $(cat "$tmp/o")"
hub "$tmp/cache/datasets--allenai--openbookqa/snapshots/0123abcd" "$tmp/one" || fail "a snapshot: $(cat "$tmp/e")"
hub "$tmp/cache/datasets--allenai--openbookqa" "$tmp/two" || fail "a dataset of the cache: $(cat "$tmp/e")"
for from in one two; do cmp "$tmp/$from/openbookqa/val.jsonl" "$tmp/hub/openbookqa/val.jsonl" || fail "$from: other rows"; done
hub "$tmp/unnamed" && cmp "$tmp/unnamed/copa/train.jsonl" "$tmp/hub/copa/train.jsonl" || fail "known by its columns: $(cat "$tmp/e")"

# download.sh where nothing answers but the hub, and that with RTE alone
mkdir "$tmp/stub"
cat >"$tmp/stub/curl" <<END
#!/bin/sh
while [ \$# -gt 1 ]; do [ "\$1" = -o ] && out=\$2; shift; done
case \$1 in
*/nyu-mll/glue/resolve/*/rte/*) cp "$tmp/hub/glue/rte/\$(basename "\$1" | cut -d- -f1)/0000.parquet" "\$out" ;;
*) exit 22 ;;
esac
END
chmod +x "$tmp/stub/curl"
printf '#!/bin/sh\n' >"$tmp/stub/unzip" && chmod +x "$tmp/stub/unzip"
for said in new same; do
    PATH=$tmp/stub:$PATH PYTHON=$(command -v "$python") data/download.sh "$tmp/fetched" >"$tmp/o" 2>"$tmp/e" && fail "download.sh: nothing is missing"
    [ "$(grep -c "^$said .*  hub/rte/rte/.*parquet$" "$tmp/o")" = 3 ] || fail "download.sh: not three files of RTE: $(cat "$tmp/o" "$tmp/e")"
    grep -q 'something is missing or wrong' "$tmp/e" || fail "download.sh: $(cat "$tmp/e")"
done
cmp "$tmp/hub/rte/val.jsonl" "$tmp/fetched/rte/val.jsonl" || fail "download.sh: RTE"
[ ! -e "$tmp/fetched/piqa/train.jsonl" ] || fail "download.sh: PIQA from nowhere"

# refused NAME TEXT...: in one line, and nothing is written
refused() {
    from=$1
    shift
    hub "$from" "$tmp/none" && fail "$from is not refused"
    [ "$(wc -l <"$tmp/e")" -eq 1 ] || fail "$from: not one line: $(cat "$tmp/e")"
    for text; do grep -qF -e "$text" "$tmp/e" || fail "$from: no \"$text\" in: $(cat "$tmp/e")"; done
    [ ! -e "$tmp/none" ] || fail "$from: something is written"
}
b=$tmp/bad
refused "$b/column" "rte/train-00000-of-00001.parquet: has no column sentence2, as rte has; its columns are sentence1, label, idx"
refused "$b/schema" "column choices is list<" "want {text: [], label: []}"
refused "$b/type" "copa/train-00000-of-00001.parquet: column label is double, want a whole number or text"
refused "$b/mixed" "row 3 hides its label, unlike the rows before it"
refused "$b/null" "row 3: sentence2 is missing"
refused "$b/piece" "this split has 3 pieces, but 1 files are there"
refused "$b/text" "is not WikiText-2's" wiki.test.raw
refused "$b/empty" "holds no rows"
refused "$b/other" "no parquet file of a known dataset"
refused "$b/two" "rte: is in " "/two/glue" "/two/super_glue"
refused "$b/cut" "cannot be read as parquet"
refused "$b/link" "is a link to nowhere; the download is not complete"
refused "$tmp/nonesuch" "no such folder"
rm "$tmp/cache/datasets--allenai--ai2_arc/refs/main"
refused "$tmp/cache" "datasets--allenai--ai2_arc/snapshots: holds 2 snapshots and no refs/main says which"
"$python" data/from_hub.py "$tmp/cache" 2>"$tmp/e" && fail "writes into the cache"
grep -q 'give OUT, too' "$tmp/e" || fail "the cache: $(cat "$tmp/e")"
mkdir -p "$tmp/taken/rte" && : >"$tmp/taken/rte/dev.tsv"
hub "$tmp/hub" "$tmp/taken" && fail "writes beside dev.tsv"
grep -q 'taken/rte/dev.tsv: would be read beside val.jsonl' "$tmp/e" || fail "another file of the split: $(cat "$tmp/e")"
"$python" data/from_hub.py >"$tmp/o" 2>"$tmp/e"
[ $? -eq 2 ] || fail "no folder: not exit 2"
exit $bad
