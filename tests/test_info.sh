#!/bin/sh
# test_info - bin/info from the outside: what it prints of good checkpoints, one line and exit 1 for broken ones, 2 for
# wrong usage.
program=info
. tests/expect.sh
golden=tests/golden/ckpt

expect 0 "usage: info" --help
expect 0 "pre-LN, 2 layers, 2 heads of 3, hidden 6, FFN 10" --model $golden/st
expect 0 "parameters    776" --model $golden/st
expect 0 "22 bfloat16" --model $golden/st_shards
expect 0 "no final norm, no biases" --model $golden/st_shards
expect 0 "post-LN" --model $golden/bin_350m
expect 0 "embedding width 4" --model $golden/bin_350m
expect 0 "12 bfloat16, " --model $golden/bin_shards
expect 0 "tensors       36 in 2 files" --model $golden/bin_shards
expect 0 "project_out.weight" --model $golden/bin_350m --tensors
expect 0 "Llama, 2 layers, 6 heads of 6 on 2 KV heads, hidden 24, gated FFN 28 (silu)" --model tests/golden/llama/llama
expect 0 "rotary (llama3, theta 100), vocabulary 264, own head" --model tests/golden/llama/llama
expect 0 "tied head, norms of q and k" --model tests/golden/llama/qwen3
expect 2 "--model" --tensors
expect 2 "unknown option" --modle $golden/st
expect 1 "config.json" --model /nonexistent
for file in $golden/bad/*.bin; do
    mkdir -p "$tmp/model"
    cp $golden/bin/config.json "$tmp/model"
    cp "$file" "$tmp/model/pytorch_model.bin"
    expect 1 "pytorch_model.bin: " --model "$tmp/model"
done
rm "$tmp/model/pytorch_model.bin"
head -c 5000 $golden/st/model.safetensors >"$tmp/model/model.safetensors"
expect 1 "truncated or damaged" --model "$tmp/model"
cp $golden/st/model.safetensors "$tmp/model"
echo '{' >"$tmp/model/vocab.json"
: >"$tmp/model/merges.txt"
expect 1 "vocab.json" --model "$tmp/model"
if "$bin/info" --model $golden/st >/dev/full 2>/dev/null; then
    echo "info reports success though its output was lost"
    bad=1
fi
exit $bad
