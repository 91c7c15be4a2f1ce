#!/bin/sh
# download.sh DIR - fetches the seven task sets and WikiText-2 from where their authors publish them and lays them out for --data DIR.
# WikiText-2's checksums are known and enforced. The others are printed and kept in DIR/SHA256SUMS; a later run compares with them, so
# that two machines, or two years, can be known to hold the same rows. Needs curl, unzip, sha256sum. A file that is there is not
# fetched again. Sources, licences and the hub's names: data/README.md.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
for tool in curl unzip sha256sum; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not installed" >&2; exit 1; }
done
mkdir -p "$1"
cd "$1"
touch SHA256SUMS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check FILE [SHA256]: against the given sum, else the recorded one, else records it.
check() {
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    want=${2:-$(awk -v f="$1" '$2 == f { print $1 }' SHA256SUMS)}
    if [ -z "$want" ]; then
        echo "$sum  $1" >>SHA256SUMS
        echo "new   $sum  $1"
    elif [ "$sum" = "$want" ]; then
        echo "same  $sum  $1"
    else
        echo "WRONG $sum  $1, want $want; moved to $1.wrong" >&2
        mv "$1" "$1.wrong"
        failed=1
    fi
}

# fetch OUT URL...: the first URL that answers.
fetch() {
    out=$1
    shift
    for url; do
        if curl -fsSL --retry 3 --connect-timeout 20 -o "$work/part" "$url"; then
            mv "$work/part" "$out"
            return 0
        fi
    done
    echo "$0: cannot fetch $url; get it by hand, see data/README.md" >&2
    failed=1
    return 1
}

# file FILE URL [SHA256]
file() {
    mkdir -p "$(dirname "$1")"
    [ -f "$1" ] || fetch "$1" "$2" || return 0
    check "$1" "${3:-}"
}

# member FILE MEMBER SHA256 URL...: one file of a zip archive, which is fetched when the first of its files is missing.
member() {
    path=$1
    inside=$2
    sum256=$3
    shift 3
    mkdir -p "$(dirname "$path")"
    if [ ! -f "$path" ]; then
        zip=$work/$(basename "$1")
        [ ! -e "$zip.failed" ] || return 0
        [ -f "$zip" ] || fetch "$zip" "$@" || { touch "$zip.failed"; return 0; }
        if ! unzip -p "$zip" "$inside" >"$work/part" 2>/dev/null; then
            echo "$0: $1 holds no $inside; its layout has changed" >&2
            failed=1
            return 0
        fi
        mv "$work/part" "$path"
    fi
    check "$path" "$sum256"
}

for part in train valid; do
    file piqa/$part.jsonl https://yonatanbisk.com/piqa/data/$part.jsonl
    file piqa/$part-labels.lst https://yonatanbisk.com/piqa/data/$part-labels.lst
done
for part in train val test; do
    file hellaswag/$part.jsonl https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_$part.jsonl
    member copa/$part.jsonl COPA/$part.jsonl '' https://dl.fbaipublicfiles.com/glue/superglue/data/v2/COPA.zip
done
for part in train dev test; do
    member rte/$part.tsv RTE/$part.tsv '' https://dl.fbaipublicfiles.com/glue/data/RTE.zip
    member openbookqa/$part.jsonl OpenBookQA-V1-Sep2018/Data/Main/$part.jsonl '' \
        https://ai2-public-datasets.s3.amazonaws.com/open-book-qa/OpenBookQA-V1-Sep2018.zip \
        https://s3-us-west-2.amazonaws.com/ai2-website/data/OpenBookQA-V1-Sep2018.zip
done
for part in train_xl dev; do
    for kind in .jsonl -labels.lst; do
        member winogrande/$part$kind winogrande_1.1/$part$kind '' \
            https://storage.googleapis.com/ai2-mosaic/public/winogrande/winogrande_1.1.zip
    done
done
for part in Train Dev Test; do
    member "arc_easy/$(echo $part | tr '[:upper:]' '[:lower:]').jsonl" ARC-V1-Feb2018-2/ARC-Easy/ARC-Easy-$part.jsonl '' \
        https://ai2-public-datasets.s3.amazonaws.com/arc/ARC-V1-Feb2018.zip \
        https://s3-us-west-2.amazonaws.com/ai2-website/data/ARC-V1-Feb2018.zip
done
wikitext() {
    member "wikitext2/$1" "wikitext-2-raw/$1" "$2" https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-raw-v1.zip \
        https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip
}
wikitext wiki.valid.raw 4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7
wikitext wiki.test.raw 173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08

[ "$failed" -eq 0 ] || { echo "$0: something is missing or wrong, see above; run it again to go on" >&2; exit 1; }
