"""numpy_opt - an OPT forward pass in float64 numpy, for tests: reads config.json and the safetensors file by the format's definition; pre-LN models
without projections, compacted ones too."""
import json
import struct
import numpy as np


class Opt:
    def __init__(self, model):
        self.config = c = json.load(open(f"{model}/config.json"))
        with open(f"{model}/model.safetensors", "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            data = f.read()
        self.weight = {}
        for name, t in header.items():
            if name == "__metadata__": continue
            raw = data[slice(*t["data_offsets"])]
            x = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "BF16": "<u2"}[t["dtype"]])
            if t["dtype"] == "BF16": x = (x.astype("<u4") << 16).view("<f4")
            self.weight[name.removeprefix("model.decoder.")] = x.astype(np.float64).reshape(t["shape"])
        self.L = c["num_hidden_layers"]
        self.D = c["hidden_size"] // c["num_attention_heads"]
        self.heads = c.get("num_attention_heads_per_layer", [c["num_attention_heads"]] * self.L)
        self.neurons = c.get("ffn_dim_per_layer", [c["ffn_dim"]] * self.L)

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.weight[name + ".weight"] + self.weight[name + ".bias"]

    def linear(self, x, name):
        return x @ self.weight[name + ".weight"].T + self.weight[name + ".bias"]

    def log_probabilities(self, tokens, see=lambda layer, kind, x: x):
        """[T, vocabulary]. see(layer, "heads" or "neurons", x) gets a or r, and returns what the next matrix reads."""
        T, D = len(tokens), self.D
        x = self.weight["embed_tokens.weight"][tokens] + self.weight["embed_positions.weight"][2 : T + 2]
        for l, H in enumerate(self.heads):
            at = f"layers.{l}."
            h = self.norm(x, at + "self_attn_layer_norm")
            q, k, v = (self.linear(h, f"{at}self_attn.{p}_proj").reshape(T, H, D).transpose(1, 0, 2) for p in "qkv")
            s = q @ k.transpose(0, 2, 1) / np.sqrt(D) + np.triu(np.full((T, T), -np.inf), 1)
            p = np.exp(s - s.max(-1, keepdims=True)) if H else s
            a = (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(T, H * D)
            x = x + self.linear(see(l, "heads", a), at + "self_attn.out_proj")
            r = np.maximum(self.linear(self.norm(x, at + "final_layer_norm"), at + "fc1"), 0)
            x = x + self.linear(see(l, "neurons", r), at + "fc2")
        y = self.norm(x, "final_layer_norm") @ self.weight["embed_tokens.weight"].T
        top = y.max(-1, keepdims=True)
        return y - top - np.log(np.exp(y - top).sum(-1, keepdims=True))

    def reader(self, layer, kind):
        """The matrix whose columns read a kind's outputs."""
        return self.weight[f"layers.{layer}.{'self_attn.out_proj' if kind == 'heads' else 'fc2'}.weight"]
