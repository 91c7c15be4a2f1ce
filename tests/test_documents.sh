#!/bin/sh
# test_documents [FILE.md ...] - every command of the documents is run as it stands (tests/documents.py), in a copy of
# the tree where the names that they use lead to tiny models and little data: model/default, opt-125m, opt-en-8m,
# SmolLM2-135M-Instruct.Q4_1.gguf and DIR to a model of 2 layers with the default model's tokenizer; data/world, DATA,
# FIRST and DIR to the first rows of the default task sets and the first pages of their text.
bin=$(readlink -f "${BIN:-build/opt/bin}") tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
. tests/needs.sh
needs_h5py
command -v gnuplot >/dev/null || { echo "SKIP test_documents: no gnuplot"; exit 77; }
export OMP_NUM_THREADS=1 LC_ALL=C.UTF-8
unset MAKEFLAGS MAKEOVERRIDES TIMES PLOT_IN PLOT_OUT PYTHON LIMIT TEXT SEEDS BIN
rows=16 pages=3
here=$tmp/here
mkdir -p "$here/results" "$tmp/text"

# The tree: what is built, and what programs write, stays out; from the results come the documents and tables.json.
for item in *; do
    case $item in build | bin | results | data | model) ;; *) cp -a "$item" "$here" ;; esac
done
cp results/*.md results/tables.json "$here/results"
mkdir -p "$here/data" "$here/model/default" "$here/model/ops/cuda"
cp -a model/ops/cuda/*.awk "$here/model/ops/cuda"
cp -a data/*.* "$here/data"
cp -a model/*.* "$here/model"
ln -s "$bin" "$here/bin"

# Little data.
for file in $(cd data && find world -type f); do
    mkdir -p "$here/data/$(dirname "$file")"
    case $file in
    *.raw) awk -v most=$pages '/^ = [^=].* = $/ && n++ == most {exit} 1' "data/$file" >"$here/data/$file" ;;
    *) head -n $rows "data/$file" >"$here/data/$file" ;;
    esac
done
cp -a "$here/data/world" "$here/DATA"
mkdir "$here/DATA/wikitext2"
for name in valid test; do cp "$here/data/world/wikitext/held-out.raw" "$here/DATA/wikitext2/wiki.$name.raw"; done

# A tiny model; its folder DIR holds the data as well.
cp model/default/vocab.json model/default/merges.txt "$here/model/default"
sed 's/^ *$//' data/world/wikitext/held-out.raw >"$tmp/text/text.txt"  # pretrain parts documents by empty lines
"$bin/pretrain" --text "$tmp/text" --out "$here/model/default" --layers 2 --heads 4 --hidden 16 --ffn 32 --batch 512 \
    --tokens 5120 >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
cp -a "$here/DATA" "$here/DIR"
cp -a "$here/DATA" "$here/FIRST"
cp "$here/model/default"/* "$here/DIR"
for name in opt-125m opt-en-8m SmolLM2-135M-Instruct.Q4_1.gguf; do ln -s model/default "$here/$name"; done

cd "$here" || exit 1
/usr/bin/python3 tests/documents.py "$@" || exit 1

# Broken documents are found out: a program, an option, a value and a target that are not there, a target whose program
# line has a fault, and a block that nobody has looked at.
cat >"$tmp/broken.md" <<'END'
`bin/nonesuch --model DIR` and `bin/info --model DIR --nonesuch`, `make nonesuch`, `make bench-decode PYTHON=python3`;
`bin/info --model DIR` is right.

    bin/sweep --model opt-125m --data DATA --tasks nonesuch \
      --mask none

    cat README.md
END
sed -i '/^TIMES /s/$/ # a comment/' experiments/runs.mk
/usr/bin/python3 tests/documents.py "$tmp/broken.md" >"$tmp/log" && { echo "FAIL: broken documents pass"; exit 1; }
grep -q '^6 commands of 1 documents, 6 failed' "$tmp/log" || { echo "FAIL: wanted 6 faults:"; cat "$tmp/log"; exit 1; }
echo "all passed"
