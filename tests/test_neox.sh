#!/bin/sh
# test_neox - the programs on a small GPT-NeoX (tests/golden/gelu/parallel: FFN beside the attention, q, k and v one
# tensor, GELU), as test_llama has them on a Llama: masks, predictors, thresholds, texts; criteria that GELU leaves
# without a meaning are refused; a pruned file holds rows of its source. And of a checkpoint of every family: live units
# alone against masked ones, and the bytes that bench counts for a token against a closed form.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=tests/golden/gelu/parallel data=data/world
run score --model $model --data $data --tasks copa,rte --shots 0 --examples 8 --criteria all,flap,wanda --over-long cut --out "$tmp/s.h5"
run aggregate --store "$tmp/s.h5" --out "$tmp/s.h5"
"$python" - "$tmp/s.h5" <<'PY' || fail "the store"
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    n = len(f["examples/loss"])
    assert f["features/head_output"].shape == f["features/residual_mid"].shape == (n, 3, 24)
    for c in ("fisher", "grasp", "nwot", "plainact", "snip"):
        heads, neurons = f[f"scores/{c}/heads"][()], f[f"scores/{c}/neurons"][()]
        assert heads.shape == (n, 3, 3) and neurons.shape == (n, 3, 28) and np.isfinite(heads).all() and np.isfinite(neurons).all()
        assert (np.ptp(neurons, axis=2) > 0).all(), c
    # no gradient is 0, and only zeros count
    assert np.ptp(f["scores/jacov/neurons"][()], axis=2).max() == 0 and np.ptp(f["aggregates/copa/epenas/neurons"][()], axis=1).max() == 0
PY
for c in jacov epenas; do
    expect 1 "criterion $c scores all neurons of a layer alike" prune --model $model --scores "$tmp/s.h5" --criterion $c --out "$tmp/x"
    expect 0 "33.3 % of the heads and 0.0 % of the neurons" prune --model $model --scores "$tmp/s.h5" --criterion $c --units heads --out "$tmp/$c"
done
run train --store "$tmp/s.h5" --model $model --criterion jacov,snip --design shadow --epochs 3 --hidden 8 --out "$tmp/p.h5"
[ "$(grep -c '^jacov  *heads\|^snip  *heads\|^snip  *neurons' "$tmp/log")" -eq 3 ] && ! grep -q '^jacov  *neurons' "$tmp/log" || fail "what is predicted: $(cat "$tmp/log")"

rule="--scores $tmp/s.h5 --criterion snip --scope global --units both"
"$bin"/generate --model $model --prompt "Anna watered the" --tokens 12 >"$tmp/dense" 2>/dev/null || fail "generate"
head -c 3000 $data/wikitext/held-out.raw >"$tmp/text"
for mask in "static $rule" "static $rule --ablate mean" "contextual --predictor $tmp/p.h5 --criterion snip" "threshold:gate --calibrate $tmp/text" "threshold:product --calibrate $tmp/text"; do
    expect 0 "everything holds" verify --model $model --mask $mask --sparsity 50 --inputs 1 --context 12 --steps 3
    run sweep --model $model --data $data --tasks copa --limit 2 --allow-overlap --mask $mask --sparsity 50 --dense-layers 0 --details "$tmp/$(echo "$mask" | tr -dc a-z).jsonl" --out "$tmp/sweep.csv"
done
run sweep --model $model --data $data --tasks copa --limit 2 --allow-overlap --mask none,static $rule --sparsity 50 --dense-layers 0 --group-heads --details "$tmp/groups.jsonl" --out "$tmp/groups.csv"

# another file, the same model: log-likelihoods, greedy text, and every row of the weights
run prune --model $model $rule --sparsity 60 --out "$tmp/small"
expect 0 "of 28 a layer" info --model "$tmp/small"
expect 0 "everything holds" verify --model "$tmp/small" --inputs 1 --context 12 --steps 3
run sweep --model $model --data $data --tasks copa --limit 3 --allow-overlap --mask "file:$tmp/small/mask.h5" --details "$tmp/masked.jsonl" --out "$tmp/masked.csv"
run sweep --model "$tmp/small" --data $data --tasks copa --limit 3 --allow-overlap --mask none --details "$tmp/compacted.jsonl" --out "$tmp/compacted.csv"
"$bin"/generate --model $model --mask "file:$tmp/small/mask.h5" --prompt "Anna watered the" --tokens 12 >"$tmp/masked" 2>/dev/null || fail "generate"
"$bin"/generate --model "$tmp/small" --prompt "Anna watered the" --tokens 12 >"$tmp/compacted" 2>/dev/null || fail "generate"
cmp -s "$tmp/masked" "$tmp/compacted" || fail "the compacted model continues otherwise than the masked one"
cmp -s "$tmp/masked" "$tmp/dense" && fail "the mask changes nothing"
"$python" - $model "$tmp" <<'PY' || fail "a pruned model is not the masked one"
import glob, json, struct, sys, h5py, numpy as np
model, tmp = sys.argv[1:]
likelihoods = lambda name: np.array([c["log_likelihood"] for l in open(f"{tmp}/{name}.jsonl") for c in json.loads(l)["candidates"]])
masked, compacted = likelihoods("masked"), likelihoods("compacted")
assert len(masked) == 6 and np.allclose(masked, compacted, rtol=2e-5, atol=0), (masked, compacted)
# heads that share K and V with no other are groups of their own
dense, grouped = np.split(likelihoods("groups"), 2)
static, = glob.glob(tmp + "/static*snip*both.jsonl")
assert np.array_equal(grouped, likelihoods(static[len(tmp) + 1:-6])) and not np.array_equal(grouped, dense)
# gate and product are one number where nothing is gated
by = [likelihoods(path[len(tmp) + 1:-6]) for path in sorted(glob.glob(tmp + "/threshold*.jsonl"))]
assert len(by) == 2 and np.array_equal(*by) and not np.array_equal(by[0], dense)

def tensors(folder):
    raw = open(folder + "/model.safetensors", "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    return {k: np.frombuffer(raw, np.float32, offset=8 + n + v["data_offsets"][0], count=int(np.prod(v["shape"]))).reshape(v["shape"])
            for k, v in json.loads(raw[8 : 8 + n]).items() if k != "__metadata__"}
whole, small = tensors(model), tensors(tmp + "/small")
with h5py.File(tmp + "/small/mask.h5") as f: heads, neurons = (f["mask/" + k][()].astype(bool) for k in ("heads", "neurons"))
assert heads.sum() < 9 and neurons.sum() < 84 and len({*heads.sum(1), *neurons.sum(1)}) > 2
for name, was in whole.items():
    layer = name.split(".")[2] if ".layers." in name else None
    if layer is not None:
        of_q_k_v, of_head, of_neuron = np.repeat(heads[int(layer)], 3 * 8), np.repeat(heads[int(layer)], 8), neurons[int(layer)]
        if "query_key_value" in name: was = was[of_q_k_v]
        if "attention.dense.weight" in name: was = was[:, of_head]
        if "dense_h_to_4h" in name: was = was[of_neuron]
        if "dense_4h_to_h.weight" in name: was = was[:, of_neuron]
    assert np.array_equal(small.pop(name), was), name
assert not small, list(small)
PY

compat="follows published code that has OPT models alone, and this one is gpt_neox"
expect 1 "$compat" score --model $model --data $data --mode both --out "$tmp/x.h5"
expect 1 "$compat" sweep --model $model --data $data --tasks copa --mode compat --mask none --out "$tmp/x.csv"
expect 1 "$compat" verify --model $model --mode compat --mask random --sparsity 50
expect 1 "$compat" prune --model $model --mode compat $rule --sparsity 60 --out "$tmp/other"
expect 1 "$compat" bench --model $model --mode compat --mask random --prompt 4 --tokens 4
expect 1 "$compat" train --store "$tmp/s.h5" --model $model --criterion snip --mode compat --out "$tmp/x.h5"

# every family
mkdir "$tmp/gelu" "$tmp/llama"
for m in gelu/parallel gelu/sequential llama/llama llama/mistral llama/qwen2 llama/qwen3 llama/relu llama/biased; do
    run prune --model tests/golden/$m --mask random --units both --sparsity 50 --seed 3 --out "$tmp/$m"
    expect 0 "everything holds" verify --model tests/golden/$m --mask "file:$tmp/$m/mask.h5" --inputs 1 --context 8 --steps 3
    expect 0 "everything holds" verify --model "$tmp/$m" --inputs 1 --context 8 --steps 3
    run bench --model tests/golden/$m --mask "none,file:$tmp/$m/mask.h5" --kv compute,repair,skip --prompt 4 --tokens 6 --rounds 1 --out "$tmp/$m.csv"
    "$python" - tests/golden/$m "$tmp/$m" <<'PY' || fail "bytes of $m"
import csv, json, sys, h5py, numpy as np
model, out = sys.argv[1:]
c = json.load(open(model + "/config.json"))
E, L, H, V, F = (c[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"))
neox, qwen2 = (c["model_type"] == t for t in ("gpt_neox", "qwen2"))
K, D = c.get("num_key_value_heads", H), c.get("head_dim") or E // H
size = 4 if c.get("dtype", c.get("torch_dtype")) == "float32" else 2
bias, ffn_bias = c.get("attention_bias", neox or qwen2), neox or c.get("mlp_bias", False)
norm, matrices = (2 * E, 2) if neox else (E, 3)
with h5py.File(out + "/mask.h5") as f: mask = f["mask/heads"][()], f["mask/neurons"][()]

def want(heads, neurons, kv):
    """Weights and K/V of a token: a KV head is read while one of its query heads runs."""
    weights, cache = V * E + E + norm, 0
    for head, neuron in zip(heads, neurons):
        h, f, needed = head.sum(), neuron.sum(), len({i * K // H for i in range(H) if head[i]})
        weights += (h + 2 * (K if kv == "compute" else needed)) * D * (E + bias) + h * D * E + (bias and not qwen2) * E
        weights += f * (matrices * E + (matrices - 1) * ffn_bias) + ffn_bias * E + 2 * norm + 2 * D * (c["model_type"] == "qwen3")
        cache += 2 * 4 * needed * D * (4 + (6 + 1) / 2)
    return size * weights, cache

rows = [r for r in csv.DictReader(l for l in open(out + ".csv") if l[0] != "#") if r["metric"] == "token_ms"]
assert [r["kv"] for r in rows] == ["", "compute", "repair", "skip"], rows
for r in rows:
    on = [np.ones_like(m) for m in mask] if r["mask"] == "none" else mask
    got = float(r["weight_bytes"]), float(r["kv_bytes"])
    assert got == want(*on, r["kv"] or "compute"), (r["mask"], r["kv"], got, want(*on, r["kv"] or "compute"))
PY
done
exit $bad
