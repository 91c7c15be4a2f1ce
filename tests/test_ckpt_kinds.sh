#!/bin/sh
# test_ckpt_kinds - checkpoints as tools of today leave them: the head alone, wrapped names, buffers and heads of other
# tasks, a tensor in two shards, a vocabulary that is padded, the hub's cache with its links; all have the hash of the
# plain file. What cannot be read is refused with a line that says what it is: pointers of Git LFS, links to nowhere,
# quantised weights, a missing and a foreign name together.
. tests/expect.sh
golden=tests/golden/ckpt

# variant NAME PYTHON: $tmp/NAME, a copy of golden st (or of $source) in which PYTHON changed `t` (name -> [type, shape,
# bytes]) and `config`
variant() {
    rm -rf "$tmp/$1" && mkdir "$tmp/$1"
    /usr/bin/python3 - "${source:-$golden/st}" "$tmp/$1" "$2" <<'PY' || fail "$1: not made"
import json, re, struct, sys
source, out, change = sys.argv[1:]
raw = open(source + "/model.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + n])
header.pop("__metadata__", None)
t = {k: [v["dtype"], v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]] for k, v in header.items()}
config, head, embed = json.load(open(source + "/config.json")), "lm_head.weight", "model.decoder.embed_tokens.weight"
def save(tensors, name="model.safetensors"):
    header, at = {}, 0
    for k, (dtype, shape, data) in tensors.items():
        header[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    open(out + "/" + name, "wb").write(struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in tensors.values()))
shards = None
exec(change)
if shards:
    for name, part in shards.items():
        save(part, name)
    json.dump({"weight_map": index}, open(out + "/model.safetensors.index.json", "w"))
else:
    save(t)
json.dump(config, open(out + "/config.json", "w"))
PY
}
same() {
    "$bin/info" --model "$1" 2>"$tmp/e" | tail -n 1 >"$tmp/hash"
    cmp -s "$tmp/hash" "$tmp/want" || fail "$1: $(cat "$tmp/hash" "$tmp/e")"
    [ -z "$2" ] || grep -qF -e "$2" "$tmp/e" || fail "$1: does not warn of $2: $(cat "$tmp/e")"
}
"$bin/info" --model $golden/st | tail -n 1 >"$tmp/want"

variant plain ""
same "$tmp/plain"
variant head 't[head] = t.pop(embed)'
same "$tmp/head"
variant wrapped 't = {"_orig_mod.module." + k: v for k, v in t.items()}'
same "$tmp/wrapped" '"_orig_mod.module." before the tensors'
variant wrapped 't = {"base_model.model." + k: v for k, v in t.items()}'
same "$tmp/wrapped" '"base_model.model." before the tensors'
for within in _orig_mod _fsdp_wrapped_module._checkpoint_wrapped_module module; do  # each layer by itself
    variant wrapped 't = {re.sub(r"(layers\.\d+\.)", r"\1'$within'.", k): v for k, v in t.items()}'
    grep -q "layers.1.$within.fc1" "$tmp/wrapped/model.safetensors" || fail "no $within within names"
    same "$tmp/wrapped"
done
variant buffer 't["model.decoder.embed_positions.position_ids"] = ["I64", [7], bytes(56)]'
same "$tmp/buffer" "1 tensor without a place in the model left out: embed_positions.position_ids"
variant heads 't["score.weight"] = ["F32", [2, 6], bytes(48)]; t["qa.bias"] = ["F32", [2], bytes(8)]'
same "$tmp/heads" "2 tensors without a place"
variant fairseq 't["decoder.output_projection.weight"] = t.pop(head)'
same "$tmp/fairseq"
variant fairseq 't["decoder.output_projection.weight"] = ["F32", [11, 6], bytes(264)]; t.pop(head)'
expect 1 "lm_head.weight differs from embed_tokens.weight" info --model "$tmp/fairseq"
variant rows 'config["vocab_size"] = 9'
same "$tmp/rows" "the embedding has 11 rows, config.json says 9; the rows count"
variant rows 'config["vocab_size"] = 16'
same "$tmp/rows" "config.json says 16"
variant twice '
names = list(t); first, second = names[:20], names[18:]
shards = {"a.safetensors": {k: t[k] for k in first}, "b.safetensors": {k: t[k] for k in second}}
index = {k: "a.safetensors" if k in first else "b.safetensors" for k in names}
wrong = shards["b.safetensors"][names[18]]
shards["b.safetensors"][names[18]] = [wrong[0], wrong[1], bytes(len(wrong[2]))]'
same "$tmp/twice"

# refused
variant page ""
printf '<!DOCTYPE html><html><body>Not found</body></html>' >"$tmp/page/model.safetensors"
expect 1 'model.safetensors: a text that begins with "<!DOCTYP", no safetensors file' info --model "$tmp/page"
variant layers 'config["num_hidden_layers"] = 1'
expect 1 "tensor layers.1.fc1.bias has no place in the model" info --model "$tmp/layers"
variant both 't["model.decoder.layers.0.fc1.qweight"] = t.pop("model.decoder.layers.0.fc1.weight")'
expect 1 "tensor layers.0.fc1.weight is missing, but config.json asks for it; layers.0.fc1.qweight, which is there, has no place" info --model "$tmp/both"
variant eight 'name = "model.decoder.layers.0.fc1.weight"; t[name] = ["I8", t[name][1], bytes(60)]'
expect 1 "tensor layers.0.fc1.weight: type I8; only F32, F16 and BF16 can be read; save the model in one of them" info --model "$tmp/eight"
variant gptq 'config["quantization_config"] = {"quant_method": "gptq", "bits": 4}; t["model.decoder.layers.0.fc1.qweight"] = ["I32", [1, 6], bytes(24)]; t.pop("model.decoder.layers.0.fc1.weight")'
expect 1 "config.json: \"quantization_config\" (gptq): quantised weights cannot be read, save the model in fp16: " info --model "$tmp/gptq"
variant claimed 'config["quantization_config"] = {"quant_method": "gptq", "bits": 4}'
same "$tmp/claimed"  # weights that were widened again
# 8-bit weights and their factors, in any type
quantised='config["quantization_config"] = {"quant_method": "fp8"}; name = "model.decoder.layers.0.fc1.weight"'
for type in I8 U8 F8_E4M3 F8_E5M2; do
    variant real "$quantised; t[name] = [\"$type\", t[name][1], bytes(60)]; t[name + \"_scale_inv\"] = [\"F32\", [10], bytes(40)]"
    expect 1 "config.json: \"quantization_config\" (fp8): quantised weights cannot be read, save the model in fp16: $tmp/real: tensor layers.0.fc1.weight" info --model "$tmp/real"
done
for factor in weight_scale weight_scale_inv weight.absmax SCB input_scale; do
    variant factor "$quantised; t[\"model.decoder.layers.0.fc1.$factor\"] = [\"F32\", [10], bytes(40)]"
    expect 1 "(fp8): quantised weights cannot be read, save the model in fp16: $tmp/factor: tensor layers.0.fc1.$factor is a factor of another" info --model "$tmp/factor"
done
# q, k and v of a GPT-NeoX, which are one tensor
source=tests/golden/gelu/parallel fused='name = "gpt_neox.layers.1.attention.query_key_value.weight"; t[name] ='
variant empty "$fused [\"F32\", [72, 0], b\"\"]"
expect 1 "tensor layers.1.attention.key.weight has shape [24, 0], but config.json asks for [24, 24]" info --model "$tmp/empty"
variant short "$fused [\"F32\", [36, 48], t[name][2]]"
expect 1 "layers.1.attention.query_key_value.weight, which is there, has no place" info --model "$tmp/short"
variant eight "$fused [\"I8\", [72, 24], bytes(72 * 24)]"
expect 1 "tensor layers.1.attention.key.weight: type I8; only F32, F16 and BF16 can be read" info --model "$tmp/eight"
source=

variant embedding 't[embed] = ["I8", t[embed][1], bytes(len(t[embed][2]) // 4)]'
expect 1 "tensor embed_tokens.weight: type I8" info --model "$tmp/embedding"
pointer='version https://git-lfs.github.com/spec/v1
oid sha256:0000000000000000000000000000000000000000000000000000000000000000
size 12345'
for file in model.safetensors config.json; do
    for bytes in 131 60 20; do
        variant lfs ""
        echo "$pointer" | head -c $bytes >"$tmp/lfs/$file"
        expect 1 "$file: a pointer of Git LFS, not the file itself; run git lfs pull" info --model "$tmp/lfs"
    done
done
variant lfs ""
for file in vocab.json merges.txt tokenizer.json; do echo "$pointer" >"$tmp/lfs/$file"; done
expect 1 "tokenizer.json: a pointer of Git LFS" info --model "$tmp/lfs"
rm "$tmp/lfs/tokenizer.json"
expect 1 "vocab.json: a pointer of Git LFS" info --model "$tmp/lfs"
for file in model.safetensors config.json; do
    variant dangling ""
    ln -sf ../../blobs/0123 "$tmp/dangling/$file"
    expect 1 "$file: a link to ../../blobs/0123, which is not there; fetch the file again" info --model "$tmp/dangling"
done
variant dangling ""
ln -s ../../blobs/45 "$tmp/dangling/tokenizer.json"
expect 1 "tokenizer.json: a link to ../../blobs/45, which is not there" info --model "$tmp/dangling"

# the hub's cache: a snapshot, the folder of its model, the cache with one model and with two
model=$tmp/hub/models--org--tiny
mkdir -p "$model/blobs" "$model/snapshots/aaa" "$model/refs"
for file in config.json model.safetensors; do
    cp "$golden/st/$file" "$model/blobs/$file.blob"
    ln -s "../../blobs/$file.blob" "$model/snapshots/aaa/$file"
done
same "$model/snapshots/aaa"
same "$model"
same "$tmp/hub"
mkdir "$tmp/home" && ln -s "$tmp/hub" "$tmp/home/hub"  # ~/.cache/huggingface
same "$tmp/home"
mkdir "$model/snapshots/bbb"
expect 1 "a cache of the hub with 2 folders" info --model "$model"
printf aaa >"$model/refs/main"
same "$model"
mkdir "$tmp/hub/models--org--other"
expect 1 "a cache of the hub with 2 folders, such as $tmp/hub/models--org--" info --model "$tmp/hub"
exit $bad
