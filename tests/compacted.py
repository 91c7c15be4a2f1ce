#!/usr/bin/env python3
"""compacted.py MODEL STORE - losses of a store of a compacted model against an OPT forward pass of its own in float64 numpy.

Reads config.json's lists and the safetensors file by the format's definition; pre-LN models without projections. Exit 1 and a line where a loss
differs by more than 2e-5 of itself, or where a layer has not the units that config.json lists.
"""
import json
import struct
import sys
import h5py
import numpy as np

model, store = sys.argv[1:]
config = json.load(open(f"{model}/config.json"))
with open(f"{model}/model.safetensors", "rb") as f:
    header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    data = f.read()
weight = {}
for name, t in header.items():
    if name == "__metadata__": continue
    raw = data[slice(*t["data_offsets"])]
    x = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "BF16": "<u2"}[t["dtype"]])
    if t["dtype"] == "BF16": x = (x.astype("<u4") << 16).view("<f4")
    weight[name.removeprefix("model.decoder.")] = x.astype(np.float64).reshape(t["shape"])

D = config["hidden_size"] // config["num_attention_heads"]
heads, neurons = config["num_attention_heads_per_layer"], config["ffn_dim_per_layer"]
for l in range(config["num_hidden_layers"]):
    if weight[f"layers.{l}.self_attn.q_proj.weight"].shape[0] != heads[l] * D or weight[f"layers.{l}.fc1.weight"].shape[0] != neurons[l]:
        sys.exit(f"FAIL: layer {l} has not {heads[l]} heads and {neurons[l]} neurons")


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight[name + ".weight"] + weight[name + ".bias"]


def linear(x, name):
    return x @ weight[name + ".weight"].T + weight[name + ".bias"]


def log_probabilities(tokens):
    T = len(tokens)
    x = weight["embed_tokens.weight"][tokens] + weight["embed_positions.weight"][2 : T + 2]
    for l, H in enumerate(heads):
        at = f"layers.{l}."
        h = norm(x, at + "self_attn_layer_norm")
        q, k, v = (linear(h, f"{at}self_attn.{p}_proj").reshape(T, H, D).transpose(1, 0, 2) for p in "qkv")
        s = q @ k.transpose(0, 2, 1) / np.sqrt(D) + np.triu(np.full((T, T), -np.inf), 1)
        p = np.exp(s - s.max(-1, keepdims=True)) if H else s
        a = (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(T, H * D)
        x = x + linear(a, at + "self_attn.out_proj")
        x = x + linear(np.maximum(linear(norm(x, at + "final_layer_norm"), at + "fc1"), 0), at + "fc2")
    y = norm(x, "final_layer_norm") @ weight["embed_tokens.weight"].T
    top = y.max(-1, keepdims=True)
    return y - top - np.log(np.exp(y - top).sum(-1, keepdims=True))


with h5py.File(store) as s:
    tokens, offset, context, loss = (s[f"examples/{k}"][()] for k in ("tokens", "offset", "context_length", "loss"))
worst = 0
for i, want in enumerate(loss):
    ids = tokens[offset[i] : offset[i + 1]]
    lp = log_probabilities(ids)
    mine = -lp[np.arange(context[i] - 1, len(ids) - 1), ids[context[i] :]].mean()
    worst = max(worst, abs(mine - want) / abs(mine))
    if not abs(mine - want) <= 2e-5 * abs(mine): sys.exit(f"FAIL: example {i}: loss {want}, in numpy {mine}")
print(f"{len(loss)} losses as in numpy, within {worst:.1e}; heads {heads}")
