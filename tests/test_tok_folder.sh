#!/bin/sh
# test_tok_folder - the tokenizer's files of a model's folder from the outside: whole in form but those of another
# model, cut short, at odds with config.json: refused with one line by every program that encodes; tokenizer.json is
# read where it is there; what begins a text.
. tests/expect.sh
golden=tests/golden/opt/pre

# fresh: a copy of a model in $tmp/m
fresh() { rm -rf "$tmp/m" && mkdir "$tmp/m" && cp $golden/config.json $golden/model.safetensors $golden/vocab.json $golden/merges.txt "$tmp/m"; }
# refused TEXT
refused() {
    for command in "info" "generate --prompt x" "score --data data/world --tasks copa --out $tmp/x.h5" "sweep --data data/world --tasks copa"; do
        # shellcheck disable=SC2046,SC2086
        expect 1 "$1" ${command%% *} --model "$tmp/m" $(echo "$command" | cut -s -d ' ' -f 2-)
    done
}
special() { sed -i "s/\"$1_token_id\": *[0-9]*/\"$1_token_id\": $2/" "$tmp/m/config.json"; }

fresh
expect 0 "-> same text" info --model "$tmp/m"
head -n 1 $golden/merges.txt >"$tmp/m/merges.txt"
refused "are made by no merge"
fresh
sed '$d' $golden/merges.txt >"$tmp/m/merges.txt"
refused "are made by no merge; the merges are cut short or those of another model"
fresh
for token in bos eos pad; do
    fresh
    special $token 50
    refused "config.json's \"${token}_token_id\" is 50, which is"
done
fresh
special bos 0
expect 0 "-> same text" info --model "$tmp/m"  # OPT's first files say so; </s> begins a text all the same
"$bin/generate" --model "$tmp/m" --prompt "ab" --tokens 5 >"$tmp/1" 2>/dev/null
"$bin/generate" --model $golden --prompt "ab" --tokens 5 | cmp -s - "$tmp/1" || fail "generate begins with another token than </s>"
fresh
# all ids are four less, and <|endoftext|> last: GPT-2's vocabulary
/usr/bin/python3 - "$tmp/m/vocab.json" <<'PY'
import json, sys
vocab = json.load(open(sys.argv[1], encoding="utf-8"))
moved = {s: i - 4 for s, i in vocab.items() if i >= 4}
moved["<|endoftext|>"] = len(moved)
json.dump(moved, open(sys.argv[1], "w", encoding="utf-8"), ensure_ascii=False)
PY
refused "no special token such as </s>; is this the tokenizer of another model?"
# all ids are one more, so </s> of config.json is <pad>
fresh
/usr/bin/python3 - "$tmp/m/vocab.json" <<'PY'
import json, sys
vocab = json.load(open(sys.argv[1], encoding="utf-8"))
json.dump({s: i + 1 for s, i in list(vocab.items())[:-1]}, open(sys.argv[1], "w", encoding="utf-8"), ensure_ascii=False)
PY
sed -i '$d' "$tmp/m/merges.txt"
special bos 3
refused "config.json's \"eos_token_id\" is 2, which the tokenizer calls \"<pad>\"; is this the tokenizer of another model?"
fresh
special eos 0
refused "config.json's \"eos_token_id\" is 0, which the tokenizer calls \"<s>\""
# byte-order marks, as editors put them: the same tokens
fresh
for name in vocab.json merges.txt; do { printf '\357\273\277'; cat $golden/$name; } >"$tmp/m/$name"; done
"$bin/tasks" --model "$tmp/m" --encode "The old man" >"$tmp/1" 2>&1
"$bin/tasks" --model $golden --encode "The old man" | cmp -s - "$tmp/1" || fail "byte-order marks: $(cat "$tmp/1")"

# companions
fresh
echo '{"eos_token": "<|im_end|>"}' >"$tmp/m/tokenizer_config.json"
refused "tokenizer_config.json: \"eos_token\" is \"<|im_end|>\", which the vocabulary does not hold"
echo '{"bos_token": {"content": "<s>"}, "model_max_length": 1000000000000000019884624838656, "add_bos_token": true}' >"$tmp/m/tokenizer_config.json"
expect 0 "-> same text" info --model "$tmp/m"
sed 's/"<unk>": *3, *//' $golden/vocab.json >"$tmp/m/vocab.json"
special pad 3
expect 1 "config.json's \"pad_token_id\" is 3, but the tokenizer has no such id" info --model "$tmp/m"
echo '{"[PADDING]": 3}' >"$tmp/m/added_tokens.json"
expect 0 "-> same text" info --model "$tmp/m"
echo '{"<new>": 5}' >"$tmp/m/added_tokens.json"
refused "added_tokens.json: "
echo '{"<new>": 70000}' >"$tmp/m/added_tokens.json"
refused "\"<new>\" has id 70000, but the embedding has rows 0 to"

# tokenizer.json goes before the other two
fresh
echo '{"model": {}}' >"$tmp/m/tokenizer.json"
refused "tokenizer.json: its model has no \"vocab\""
# one of the same form and of another model
/usr/bin/python3 - "$tmp/m" <<'PY'
import json, sys
vocab = json.load(open(sys.argv[1] + "/vocab.json", encoding="utf-8"))
merges = [line.split(" ") for line in open(sys.argv[1] + "/merges.txt", encoding="utf-8").read().split("\n") if line and line[0] != "#"]
def save(vocab):
    json.dump({"added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
               "model": {"type": "BPE", "vocab": vocab, "merges": merges}}, open(sys.argv[1] + "/tokenizer.json", "w", encoding="utf-8"))
save(vocab)
PY
expect 0 "-> same text" info --model "$tmp/m"
sed -i 's/"!": 37/"!": 38/; s/"\\"": 38/"\\"": 37/' "$tmp/m/tokenizer.json"
refused "has id 37 in vocab.json and 38 in tokenizer.json; one of the two is of another model"
cp tests/golden/tok_json/gpt2.json "$tmp/m/tokenizer.json"
refused "is this the tokenizer of another model?"
rm "$tmp/m/tokenizer.json" "$tmp/m/vocab.json" "$tmp/m/merges.txt"
expect 0 "tokenizer     none" info --model "$tmp/m"
expect 1 "no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is there" generate --model "$tmp/m" --prompt x
exit $bad
