#!/usr/bin/env python3
"""make_llama.py - small checkpoints of the Llama family and what a float64 PyTorch says about them: llama/NAME/{config.json,
model.safetensors, reference.h5}. The counterpart of make_opt.py, written from the formulas alone, with its file writers and its form:
every gradient is autograd's, every Hessian-vector product a second autograd pass, every removal a forward pass of its own. Run it in
this folder (torch >= 1.13, numpy, h5py); it takes some seconds and gives the same numbers again.

reference.h5, float32 unless said; rows = tokens of the N sequences one after the other; A = heads x head size:
  tokens [rows], offset [N+1], context [N] int32; loss [N] float64: mean cross-entropy of the tokens from `context` on
  logits [rows, V]; logprob [rows - N] float64: log p of tokens 1.. of each sequence
  res [L+1, rows, E], a [L, rows, A], mid, x [L, rows, E], z, u, r [L, rows, F]: the taps of model.h; z, u: outputs of gate and up
  da [L, rows, A], dz, du, dr [L, rows, F]: their gradients; hv_a, hv_r: H v in the space of all a and r, v = (da, dr)
  features/{head_output [N, L, A], residual, residual_mid [N, L, E]}; scores/CRITERION/{heads [N, L, H], neurons [N, L, F]}
  mask/heads [M, L, H], mask/neurons [M, L, F], mask/from [M, N] int32 (first position where the mask acts);
  mask/logprob [M, rows - N] float64, mask/last [M, N, V]: log-probabilities and last logits of the masked forward
"""
import json
import math
import os
import struct

import h5py
import numpy as np
import torch
import torch.nn.functional as fn

from make_opt import NEAR, SEQUENCES, logprobs, loss_of, spectrum_score, write_tokenizer

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
MODELS = {
    "llama": dict(type="llama", E=24, L=2, H=6, K=2, D=6, F=28, V=264, seed=11, theta=100.0, scaling=LLAMA3, positions=600),
    "mistral": dict(type="mistral", E=20, L=2, H=4, K=2, D=8, F=24, V=61, seed=12, theta=1e4, act="gelu", v5=True),
    "qwen2": dict(type="qwen2", E=20, L=3, H=5, K=1, D=4, F=22, V=62, seed=13, theta=1e6, tied=True, dtype="bfloat16"),
    "qwen3": dict(type="qwen3", E=21, L=2, H=4, K=2, D=6, F=31, V=66, seed=14, theta=1e4, tied=True, dtype="float16"),
    "relu": dict(type="llama", E=24, L=2, H=3, K=3, D=8, F=26, V=64, seed=15, theta=1e4, act="relu", scaling=dict(type="linear", factor=2.0)),
    "biased": dict(type="llama", E=20, L=2, H=4, K=4, D=4, F=20, V=63, seed=16, theta=1e4, act="gelu_pytorch_tanh", bias=True),
}
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
ACT = {"silu": lambda x: x / (1 + (-x).exp()), "relu": lambda x: x.clamp(min=0),
       "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
       "gelu_pytorch_tanh": lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2}


# ---------------------------------------------------------------- checkpoints
def write_checkpoint(folder, c, weights):
    os.makedirs(folder, exist_ok=True)
    config = dict(
        architectures=[CLASSES[c["type"]]], model_type=c["type"], vocab_size=c["V"], hidden_size=c["E"], num_hidden_layers=c["L"],
        num_attention_heads=c["H"], num_key_value_heads=c["K"], head_dim=c["D"], intermediate_size=c["F"], hidden_act=c["act"],
        max_position_embeddings=c["positions"], rms_norm_eps=c["eps"], tie_word_embeddings=c["tied"], bos_token_id=1, eos_token_id=[2, 3],
        torch_dtype=c["dtype"])
    if c["v5"]:
        config["rope_parameters"] = dict(rope_type="default", rope_theta=c["theta"])
    else:
        config.update(rope_theta=c["theta"], rope_scaling=c["scaling"])
    if c["type"] == "llama":
        config.update(attention_bias=c["bias"], mlp_bias=c["bias"])
    if c["type"] == "mistral":
        config["sliding_window"] = None
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    code = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    head, body = {"__metadata__": {"format": "pt"}}, b""
    for name, w in weights.items():
        raw = w.contiguous().view(torch.int32 if w.element_size() == 4 else torch.int16).numpy().tobytes()
        full = name if name == "lm_head.weight" else "model." + name
        head[full] = dict(dtype=code[w.dtype], shape=list(w.shape), data_offsets=[len(body), len(body) + len(raw)])
        body += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    if c["V"] >= 260:
        write_tokenizer(folder, c["V"])


def random_weights(c, rng):
    E, F, A, W = c["E"], c["F"], c["H"] * c["D"], c["K"] * c["D"]
    dtype = getattr(torch, c["dtype"])
    out = {}

    def put(name, shape, scale, centre=0.0):
        out[name] = torch.from_numpy(rng.standard_normal(shape) * scale + centre).to(dtype)

    put("embed_tokens.weight", (c["V"], E), 0.8)
    for i in range(c["L"]):
        p = f"layers.{i}."
        for n, rows, cols, scale, biased in (
            ("self_attn.q_proj", A, E, 1.6, c["bias"] or c["type"] == "qwen2"), ("self_attn.k_proj", W, E, 1.6, c["bias"] or c["type"] == "qwen2"),
            ("self_attn.v_proj", W, E, 1.2, c["bias"] or c["type"] == "qwen2"), ("self_attn.o_proj", E, A, 1.0, c["bias"]),
            ("mlp.gate_proj", F, E, 1.4, c["bias"]), ("mlp.up_proj", F, E, 1.2, c["bias"]), ("mlp.down_proj", E, F, 1.3, c["bias"])):
            put(p + n + ".weight", (rows, cols), scale * cols**-0.5)
            if biased:
                put(p + n + ".bias", (rows,), 0.25)
        if c["type"] == "qwen3":
            for n in "qk":
                put(f"{p}self_attn.{n}_norm.weight", (c["D"],), 0.2, 1.4)
        for n in ("input_layernorm", "post_attention_layernorm"):
            put(f"{p}{n}.weight", (E,), 0.2, 1.0)
    put("norm.weight", (E,), 0.15, 0.7)
    if not c["tied"]:
        put("lm_head.weight", (c["V"], E), 0.8)
    return out


# ---------------------------------------------------------------- the model
def frequencies(c):
    out = []
    for i in range(c["D"] // 2):
        f, s = c["theta"] ** (-2 * i / c["D"]), c["scaling"]
        kind = "default" if s is None else s.get("rope_type", s.get("type"))
        if kind == "linear":
            f /= s["factor"]
        if kind == "llama3":
            length, old, low, high = 2 * math.pi / f, s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
            if length > old / low:
                f /= s["factor"]
            elif length > old / high:
                share = (old / length - low) / (high - low)
                f = (1 - share) * f / s["factor"] + share * f
        out.append(f)
    return torch.tensor(out)


def turned(c, x):
    """[T, D], row t by its angles"""
    half = c["D"] // 2
    angle = torch.arange(len(x), dtype=torch.float64)[:, None] * frequencies(c)
    y = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([y.real, y.imag], 1)


def forward(c, w, ids, move=None, heads=None, neurons=None, since=0):
    """Logits [T, V] and the taps by name, a list over layers each. move: {"a": .., "r": ..} added to the taps of each layer; heads [L, H],
    neurons [L, F]: 0 switches the unit's output off at positions >= since."""
    T, H, K, D = len(ids), c["H"], c["K"], c["D"]
    late = (torch.arange(T) >= since).double()[:, None]

    def affine(v, name):
        return fn.linear(v, w[name + ".weight"], w.get(name + ".bias"))

    def norm(v, name):
        return v / (v.square().mean(-1, keepdim=True) + c["eps"]).sqrt() * w[name + ".weight"]

    tap = {k: [] for k in ("res", "a", "mid", "x", "z", "u", "r")}
    r = w["embed_tokens.weight"][ids]
    future = torch.ones(T, T).triu(1).bool()
    for i in range(c["L"]):
        p = f"layers.{i}."
        tap["res"].append(r)
        h = norm(r, p + "input_layernorm")
        q, k, v = (affine(h, p + f"self_attn.{n}_proj") for n in "qkv")
        parts = []
        for j in range(H):
            g = j // (H // K)
            qj, kj, vj = q[:, j * D : (j + 1) * D], k[:, g * D : (g + 1) * D], v[:, g * D : (g + 1) * D]
            if c["type"] == "qwen3":
                qj, kj = norm(qj, p + "self_attn.q_norm"), norm(kj, p + "self_attn.k_norm")
            att = (turned(c, qj) @ turned(c, kj).T / math.sqrt(D)).masked_fill(future, -math.inf).softmax(-1)
            parts.append(att @ vj)
        a = torch.cat(parts, 1)
        if move is not None:
            a = a + move["a"][i]
        tap["a"].append(a)
        if heads is not None:
            a = a * (1 - late * (1 - heads[i].repeat_interleave(D)))
        r = r + affine(a, p + "self_attn.o_proj")
        tap["mid"].append(r)
        x = norm(r, p + "post_attention_layernorm")
        tap["x"].append(x)
        z, u = affine(x, p + "mlp.gate_proj"), affine(x, p + "mlp.up_proj")
        f = ACT[c["act"]](z) * u
        if move is not None:
            f = f + move["r"][i]
        for k_, v_ in (("z", z), ("u", u), ("r", f)):
            tap[k_].append(v_)
        if neurons is not None:
            f = f * (1 - late * (1 - neurons[i]))
        r = r + affine(f, p + "mlp.down_proj")
    tap["res"].append(r)
    r = norm(r, "norm")
    return r @ w["embed_tokens.weight" if c["tied"] else "lm_head.weight"].T, tap


def analyse(c, w, ids, context):
    """Everything that reference.h5 holds of one sequence, as numpy arrays."""
    T, L, A, F = len(ids), c["L"], c["H"] * c["D"], c["F"]
    move = {k: [torch.zeros(T, n, requires_grad=True) for _ in range(L)] for k, n in (("a", A), ("r", F))}
    logits, tap = forward(c, w, ids, move)
    loss = loss_of(logits, ids, context)
    g = torch.autograd.grad(loss, move["a"] + move["r"] + tap["z"] + tap["u"], create_graph=True)
    da, dr, dz, du = (g[i * L : (i + 1) * L] for i in range(4))
    hv = torch.autograd.grad(sum((p * p.detach()).sum() for p in da + dr), move["a"] + move["r"])
    stack = lambda ts: np.stack([t.detach().numpy() for t in ts])
    weights = {f"w_{n}": stack([w[f"layers.{i}.mlp.{n}_proj.weight"] for i in range(L)]) for n in ("gate", "up")}
    return dict(
        loss=float(loss), logits=logits.detach().numpy(), logprob=logprobs(logits, ids).detach().numpy(), da=stack(da), dr=stack(dr),
        dz=stack(dz), du=stack(du), hv_a=stack(hv[:L]), hv_r=stack(hv[L:]), **weights, **{k: stack(v) for k, v in tap.items()})


# ---------------------------------------------------------------- criteria
def criteria(c, s):
    """{name: (heads [L, H], neurons [L, F])} of what analyse gave."""
    L, H, D, F = c["L"], c["H"], c["D"], c["F"]
    T = s["a"].shape[1]
    heads = lambda m: m.reshape(L, T, H, D)
    a, da, hva = (heads(s[k]) for k in ("a", "da", "hv_a"))
    z, r, dr, dz, du, x = (s[k] for k in ("z", "r", "dr", "dz", "du", "x"))
    gate = (a * da).sum(3)  # [L, T, H]
    grads = [np.einsum("ltf,lte->lfe", d, x) for d in (dz, du)]
    out = {}
    out["plainact"] = np.abs(gate).sum(1), sum(np.abs(s[n] * g).sum(2) for n, g in zip(("w_gate", "w_up"), grads))
    out["l2_norm"] = np.sqrt((a**2).sum((1, 3))), np.sqrt((r**2).sum(1))
    out["grad_norm"] = np.sqrt((da**2).sum((1, 3))), np.sqrt(sum((g**2).sum(2) for g in grads))
    out["fisher"] = 0.5 * (gate**2).mean(1), 0.5 * ((r * dr) ** 2).mean(1)
    out["snip"] = np.abs(gate.sum(1)), np.abs((r * dr).sum(1))
    out["grasp"] = (a * hva).sum((1, 3)), (r * s["hv_r"]).sum(1)
    code = (a > 0).astype(float)
    det, jh, jn = np.zeros((L, H)), np.zeros((L, H)), np.zeros((L, F))
    for i in range(L):
        for h in range(H):
            one = code[i, :, h]
            det[i, h] = np.linalg.slogdet(np.eye(T) + (one @ one.T + (1 - one) @ (1 - one).T) / D)[1]
            jh[i, h] = spectrum_score(da[i, :, h], 200)
        for j in range(F):
            jn[i, j] = spectrum_score(np.concatenate([dz[i, :, j, None] * x[i], du[i, :, j, None] * x[i]], 1), 32)
    n1 = (z > 0).sum(1)
    out["nwot"] = det, np.log(1.0 + n1) + np.log(1.0 + T - n1)
    out["jacov"] = jh, jn
    return out


def removal(c, w, ids, context, loss):
    out = np.zeros((c["L"], c["H"])), np.zeros((c["L"], c["F"]))
    with torch.no_grad():
        for kind, scores in zip(("heads", "neurons"), out):
            for at in np.ndindex(*scores.shape):
                keep = torch.ones(*scores.shape)
                keep[at] = 0
                scores[at] = float(loss_of(forward(c, w, ids, **{kind: keep})[0], ids, context)) - loss
    return out


# ---------------------------------------------------------------- fixtures
def draw_tokens(c, w, rng, n):
    """Random ids whose taps all keep away from zero, so that single precision sees the same signs. A few ids come often."""
    while True:
        ids = rng.integers(4, c["V"], n)
        few = rng.integers(4, c["V"], 5)
        often = rng.random(n) < 0.3
        ids[often] = few[rng.integers(0, 5, n)][often]
        ids = torch.from_numpy(ids)
        with torch.no_grad():
            tap = forward(c, w, ids)[1]
        if min(float(t.abs().min() / t.square().mean().sqrt()) for t in tap["a"] + tap["z"]) > NEAR:
            return ids


def make(name, seed, act="silu", tied=False, bias=False, dtype="float32", scaling=None, v5=False, positions=24, **c):
    c.update(act=act, tied=tied, bias=bias, dtype=dtype, scaling=scaling, v5=v5, positions=positions, eps=1e-5)
    rng = np.random.Generator(np.random.PCG64(seed))
    stored = random_weights(c, rng)
    write_checkpoint(f"llama/{name}", c, stored)
    w = {k: v.double() for k, v in stored.items()}
    seqs = [(draw_tokens(c, w, rng, n), ctx) for n, ctx in SEQUENCES]
    all_of = [analyse(c, w, *s) for s in seqs]
    with h5py.File(f"llama/{name}/reference.h5", "w", libver=("v110", "v110")) as f:

        def put(path, value, dtype=np.float32):
            value = np.asarray(value, dtype)
            f.create_dataset(path, data=value, track_times=False, **(dict(compression=9, shuffle=True) if value.size > 4000 else {}))

        put("tokens", torch.cat([ids for ids, _ in seqs]).numpy(), np.int32)
        put("offset", np.cumsum([0] + [len(ids) for ids, _ in seqs]), np.int32)
        put("context", [ctx for _, ctx in seqs], np.int32)
        put("loss", [s["loss"] for s in all_of], np.float64)
        put("logits", np.concatenate([s["logits"] for s in all_of]))
        put("logprob", np.concatenate([s["logprob"] for s in all_of]), np.float64)
        for k in ("res", "a", "mid", "x", "z", "u", "r", "da", "dz", "du", "dr", "hv_a", "hv_r"):
            put(k, np.concatenate([s[k] for s in all_of], 1))
        for k, t in (("head_output", "a"), ("residual", "res"), ("residual_mid", "mid")):
            put(f"features/{k}", [s[t][: c["L"], ctx - 1] for s, (_, ctx) in zip(all_of, seqs)])
        results = [criteria(c, s) for s in all_of]
        for r, s, (ids, ctx) in zip(results, all_of, seqs):
            r["removal"] = removal(c, w, ids, ctx, s["loss"])
        for crit in results[0]:
            for u, unit in enumerate(("heads", "neurons")):
                put(f"scores/{crit}/{unit}", [r[crit][u] for r in results])

        # Mask 0: half of all units; 1: other units; 2: an empty layer, from the end of the context on; 3: as 1, from there on.
        heads = rng.random((4, c["L"], c["H"])) < 0.5
        neurons = rng.random((4, c["L"], c["F"])) < 0.5
        heads[2, 1], neurons[2, 1] = 0, 0
        heads[3], neurons[3] = heads[1], neurons[1]
        since = np.array([[0] * len(seqs)] * 2 + [[ctx - 1 for _, ctx in seqs]] * 2)
        put("mask/heads", heads, np.uint8)
        put("mask/neurons", neurons, np.uint8)
        put("mask/from", since, np.int32)
        lp, last = [], []
        for m in range(len(heads)):
            kept = dict(heads=torch.from_numpy(heads[m].astype(float)), neurons=torch.from_numpy(neurons[m].astype(float)))
            got = [(ids, forward(c, w, ids, since=int(since[m, i]), **kept)[0]) for i, (ids, _) in enumerate(seqs)]
            lp.append(np.concatenate([logprobs(y, ids).numpy() for ids, y in got]))
            last.append([y[-1].numpy() for _, y in got])
        put("mask/logprob", lp, np.float64)
        put("mask/last", last)


if __name__ == "__main__":
    for model, spec in MODELS.items():
        make(model, **spec)
        print(model, *(f"{n} {os.path.getsize(f'llama/{model}/{n}')}" for n in sorted(os.listdir(f"llama/{model}"))))
