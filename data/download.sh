#!/bin/sh
# download.sh DIR - fetches the seven task sets and WikiText-2 and lays them out for --data DIR: from where their
# authors publish them, else (HellaSwag always, whose authors' repository was blocked in September 2026) from the
# Hugging Face hub, at fixed revisions, as parquet files in DIR/hub, which from_hub.py turns into task files: for those
# PYTHON (python3) needs pyarrow. WikiText-2's checksums are known and enforced. The others are printed and kept in
# DIR/SHA256SUMS; a later run compares with them, so that two machines, or two years, can be known to hold the same
# rows. Needs curl, unzip, sha256sum. A file that is there is not fetched again. Sources, licences and the hub's names:
# data/README.md.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
for tool in curl unzip sha256sum; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not installed" >&2; exit 1; }
done
from_hub=$(cd "$(dirname "$0")" && pwd)/from_hub.py
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

# fetch OUT URL...: the first URL that answers. 1, and the reason, where none does.
fetch() {
    out=$1
    shift
    for url; do
        if curl -fsSL --retry 3 --connect-timeout 20 -o "$work/part" "$url"; then
            mv "$work/part" "$out"
            return 0
        fi
    done
    echo "$0: cannot fetch $url" >&2
    return 1
}

# file FILE URL [SHA256]
file() {
    mkdir -p "$(dirname "$1")"
    [ -f "$1" ] || fetch "$1" "$2" || return 1
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
        [ -f "$zip" ] || fetch "$zip" "$@" || return 1
        if ! unzip -p "$zip" "$inside" >"$work/part" 2>/dev/null; then
            echo "$0: $1 holds no $inside; its layout has changed" >&2
            return 1
        fi
        mv "$work/part" "$path"
    fi
    check "$path" "$sum256"
}

# hub TASK REPOSITORY REVISION FILE...: a set's parquet files, under DIR/hub/TASK.
hub() {
    task=$1
    base=https://huggingface.co/datasets/$2/resolve/$3
    shift 3
    for part; do
        file "hub/$task/$part" "$base/$part" || { failed=1; return 0; }
    done
    parquet=1
}
splits() { printf "$1/%s-00000-of-00001.parquet " train validation test; }  # FOLDER

# Each set from its authors.
piqa() {
    for part in train valid; do
        file piqa/$part.jsonl https://yonatanbisk.com/piqa/data/$part.jsonl &&
            file piqa/$part-labels.lst https://yonatanbisk.com/piqa/data/$part-labels.lst || return 1
    done
}
copa() {
    for part in train val test; do
        member copa/$part.jsonl COPA/$part.jsonl '' https://dl.fbaipublicfiles.com/glue/superglue/data/v2/COPA.zip || return 1
    done
}
rte() {
    for part in train dev test; do
        member rte/$part.tsv RTE/$part.tsv '' https://dl.fbaipublicfiles.com/glue/data/RTE.zip || return 1
    done
}
openbookqa() {
    for part in train dev test; do
        member openbookqa/$part.jsonl OpenBookQA-V1-Sep2018/Data/Main/$part.jsonl '' \
            https://ai2-public-datasets.s3.amazonaws.com/open-book-qa/OpenBookQA-V1-Sep2018.zip \
            https://s3-us-west-2.amazonaws.com/ai2-website/data/OpenBookQA-V1-Sep2018.zip || return 1
    done
}
winogrande() {
    for part in train_xl dev; do
        for kind in .jsonl -labels.lst; do
            member winogrande/$part$kind winogrande_1.1/$part$kind '' \
                https://storage.googleapis.com/ai2-mosaic/public/winogrande/winogrande_1.1.zip || return 1
        done
    done
}
arc_easy() {
    for part in Train Dev Test; do
        member "arc_easy/$(echo $part | tr '[:upper:]' '[:lower:]').jsonl" \
            ARC-V1-Feb2018-2/ARC-Easy/ARC-Easy-$part.jsonl '' \
            https://ai2-public-datasets.s3.amazonaws.com/arc/ARC-V1-Feb2018.zip \
            https://s3-us-west-2.amazonaws.com/ai2-website/data/ARC-V1-Feb2018.zip || return 1
    done
}
wikitext2() {
    raw wiki.valid.raw 4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7 &&
        raw wiki.test.raw 173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08
}
raw() {
    member "wikitext2/$1" "wikitext-2-raw/$1" "$2" https://wikitext.smerity.com/wikitext-2-raw-v1.zip \
        https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip
}

# either TASK REPOSITORY REVISION FILE...: a set from its authors, else from the hub; from where it came before, once it
# did.
either() {
    { [ ! -d "hub/$1" ] && "$1"; } || hub "$@"
}
parquet=0
either piqa baber/piqa 142f6d7367fd9877f0fb3b5734ea6a545f54cdd1 piqa_train.parquet piqa_validation.parquet
either copa aps/super_glue 5234c61e804e85e5994b14b002fa9ec34487bcfb $(splits copa)
either rte nyu-mll/glue bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c $(splits rte)
either openbookqa allenai/openbookqa 388097ea7776314e93a529163e0fea805b8a6454 $(splits main)
either winogrande allenai/winogrande 01e74176c63542e6b0bcb004dcdea22d94fb67b5 $(splits winogrande_xl)
either arc_easy allenai/ai2_arc 210d026faf9955653af8916fad021475a3f00453 $(splits ARC-Easy)
hub hellaswag Rowan/hellaswag 218ec52e09a7e7462a5400043bb9a69a41d06b76 $(splits data)
either wikitext2 Salesforce/wikitext b08601e04326c79dfdd32d625aee71d232d685c3 $(splits wikitext-2-raw-v1)

if [ $parquet -eq 1 ]; then
    "${PYTHON:-python3}" "$from_hub" hub . || failed=1
fi
[ "$failed" -eq 0 ] || { echo "$0: something is missing or wrong, see above; run it again to go on" >&2; exit 1; }
