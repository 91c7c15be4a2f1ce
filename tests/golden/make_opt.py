#!/usr/bin/env python3
"""make_opt.py - small OPT checkpoints and what a float64 PyTorch says about them: opt/NAME/{config.json, model.safetensors, reference.h5}

Written from the published formulas alone; shares nothing with the C code. Every gradient is autograd's, every Hessian-vector
product a second autograd pass, every removal a forward pass of its own. Run it in this folder (torch >= 1.13, numpy, h5py); it
takes some seconds and gives the same numbers again (weights come from numpy's PCG64, seeded per model).

reference.h5, float32 unless said; rows = tokens of the N sequences one after the other:
  tokens [rows], offset [N+1], context [N] int32; loss [N] float64: mean cross-entropy of the tokens from `context` on
  logits [rows, V]; logprob [rows - N] float64: log p of tokens 1.. of each sequence
  res [L+1, rows, E], a, mid, x [L, rows, E], z [L, rows, F]: the taps of opt.h;  da [L, rows, E], dz [L, rows, F]: their gradients
  g1 [N, L, F, E]: gradient of fc1's weight;  hv_a, hv_z: H v in the space of all a and z, v = (da, dz)
  hu_a [L, rows, E], hu_w1 [N, L, F, E]: H u in the space of all a and fc1 weights, u = (da / (T E), g1 / (F E))
  features[_compat]/{head_output, residual, residual_mid} [N, L, E]; scores[_compat]/CRITERION/{heads [N, L, H], neurons [N, L, F]}
  mask/heads [M, L, H], mask/neurons [M, L, F], mask/from [M, N] int32 (first position where the mask acts);
  mask/logprob [M, rows - N] float64, mask/last [M, N, V]: log-probabilities and last logits of the masked forward
  long/{tokens, context, loss, features[_compat]/.., scores[_compat]/..}: one sequence of more than 200 tokens, without its taps
"""
import json
import math
import os
import struct

import h5py
import numpy as np
import torch
import torch.nn.functional as fn

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

MODELS = {
    "pre": dict(E=24, L=3, H=4, F=32, P=24, V=264, positions=240, seed=1, long=232),
    "post": dict(E=20, L=2, H=5, F=28, P=12, V=71, positions=40, seed=2, pre_ln=False),
    "odd": dict(E=21, L=2, H=3, F=31, P=21, V=67, positions=33, seed=3),
    "half": dict(E=16, L=2, H=2, F=24, P=8, V=61, positions=24, seed=4, dtype="float16", bias=False, final_ln=False),
    "bf16": dict(E=20, L=2, H=4, F=24, P=20, V=62, positions=24, seed=5, dtype="bfloat16", pre_ln=False),
}
SEQUENCES = ((14, 8), (9, 8), (6, 1))  # tokens, of which context: several targets, a single one, nearly all
NEAR = 5e-5  # no tap may be nearer to zero than this, relative to the rms of its layer: signs are then the same in single precision


# ---------------------------------------------------------------- checkpoints
def byte_symbols():
    """GPT-2's printable symbol of each byte: itself where printable, else 256 and up in order."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, n = {b: chr(b) for b in keep}, 256
    for b in range(256):
        if b not in out:
            out[b] = chr(n)
            n += 1
    return [out[b] for b in range(256)]


def write_tokenizer(folder, size):
    sym = byte_symbols()
    pairs = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n")][: size - 260]
    names = ["<s>", "<pad>", "</s>", "<unk>"] + sym + [a + b for a, b in pairs]
    with open(f"{folder}/vocab.json", "w", encoding="utf-8") as f:
        json.dump({s: i for i, s in enumerate(names)}, f, ensure_ascii=False)
        f.write("\n")
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))


def write_checkpoint(folder, c, weights):
    """weights: name -> tensor in its stored type."""
    os.makedirs(folder, exist_ok=True)
    config = dict(
        architectures=["OPTForCausalLM"], model_type="opt", vocab_size=c["V"], hidden_size=c["E"], num_hidden_layers=c["L"],
        num_attention_heads=c["H"], ffn_dim=c["F"], word_embed_proj_dim=c["P"], max_position_embeddings=c["positions"],
        do_layer_norm_before=c["pre_ln"], _remove_final_layer_norm=not c["final_ln"], enable_bias=c["bias"],
        layer_norm_elementwise_affine=True, activation_function="relu", bos_token_id=2, eos_token_id=2, pad_token_id=1,
        dropout=0.0, tie_word_embeddings=True, torch_dtype=c["dtype"])
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    code = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    head, body = {"__metadata__": {"format": "pt"}}, b""
    for name, w in weights.items():
        raw = w.contiguous().view(torch.int32 if w.element_size() == 4 else torch.int16).numpy().tobytes()
        head["model.decoder." + name] = dict(dtype=code[w.dtype], shape=list(w.shape), data_offsets=[len(body), len(body) + len(raw)])
        body += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    if c["V"] >= 260:
        write_tokenizer(folder, c["V"])


def random_weights(c, rng):
    E, F, P = c["E"], c["F"], c["P"]
    dtype = getattr(torch, c["dtype"])
    out = {}

    def put(name, shape, scale, centre=0.0):
        out[name] = torch.from_numpy(rng.standard_normal(shape) * scale + centre).to(dtype)

    put("embed_tokens.weight", (c["V"], P), 0.8)
    put("embed_positions.weight", (c["positions"] + 2, E), 0.3)
    if P != E:
        put("project_in.weight", (E, P), P**-0.5)
        put("project_out.weight", (P, E), E**-0.5)
    for i in range(c["L"]):
        p = f"layers.{i}."
        for n, rows, cols, scale in (
            ("self_attn.q_proj", E, E, 1.6), ("self_attn.k_proj", E, E, 1.6), ("self_attn.v_proj", E, E, 1.2),
            ("self_attn.out_proj", E, E, 1.0), ("fc1", F, E, 1.1), ("fc2", E, F, 1.2)):
            put(p + n + ".weight", (rows, cols), scale * cols**-0.5)
            if c["bias"]:
                put(p + n + ".bias", (rows,), 0.25, -0.2 if n == "fc1" else 0.0)
        for n in ("self_attn_layer_norm", "final_layer_norm"):
            put(f"{p}{n}.weight", (E,), 0.2, 1.0)
            put(f"{p}{n}.bias", (E,), 0.2)
    if c["pre_ln"] and c["final_ln"]:
        put("final_layer_norm.weight", (E,), 0.15, 0.7)
        put("final_layer_norm.bias", (E,), 0.2)
    return out


# ---------------------------------------------------------------- the model
def forward(c, w, ids, move=None, w1=None, heads=None, neurons=None, since=0):
    """Logits [T, V] and the taps by name, a list over layers each. move: {"a": .., "z": ..} added to the taps of each layer; w1 replaces
    fc1's weights; heads [L, H], neurons [L, F]: 0 switches the unit's output off at positions >= since."""
    T, E, H = len(ids), c["E"], c["H"]
    D = E // H
    late = (torch.arange(T) >= since).double()[:, None]

    def affine(v, name, weight=None):
        return fn.linear(v, w[name + ".weight"] if weight is None else weight, w.get(name + ".bias"))

    def norm(v, name):
        centred = v - v.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"] + w[name + ".bias"]

    tap = {k: [] for k in ("res", "a", "o", "mid", "x", "z")}
    r = w["embed_tokens.weight"][ids]
    if "project_in.weight" in w:
        r = affine(r, "project_in")
    r = r + w["embed_positions.weight"][2 : T + 2]
    future = torch.ones(T, T).triu(1).bool()
    for i in range(c["L"]):
        p = f"layers.{i}."
        tap["res"].append(r)
        h = norm(r, p + "self_attn_layer_norm") if c["pre_ln"] else r
        q = affine(h, p + "self_attn.q_proj") / math.sqrt(D)
        k, v = affine(h, p + "self_attn.k_proj"), affine(h, p + "self_attn.v_proj")
        parts = []
        for s in range(0, E, D):
            att = (q[:, s : s + D] @ k[:, s : s + D].T).masked_fill(future, -math.inf).softmax(-1)
            parts.append(att @ v[:, s : s + D])
        a = torch.cat(parts, 1)
        if move is not None:
            a = a + move["a"][i]
        tap["a"].append(a)
        if heads is not None:
            a = a * (1 - late * (1 - heads[i].repeat_interleave(D)))
        o = affine(a, p + "self_attn.out_proj")
        tap["o"].append(o)
        r = r + o
        if not c["pre_ln"]:
            r = norm(r, p + "self_attn_layer_norm")
        tap["mid"].append(r)
        x = norm(r, p + "final_layer_norm") if c["pre_ln"] else r
        tap["x"].append(x)
        z = affine(x, p + "fc1", None if w1 is None else w1[i])
        if move is not None:
            z = z + move["z"][i]
        tap["z"].append(z)
        f = z.clamp(min=0)
        if neurons is not None:
            f = f * (1 - late * (1 - neurons[i]))
        r = r + affine(f, p + "fc2")
        if not c["pre_ln"]:
            r = norm(r, p + "final_layer_norm")
    tap["res"].append(r)
    if c["pre_ln"] and c["final_ln"]:
        r = norm(r, "final_layer_norm")
    if "project_out.weight" in w:
        r = affine(r, "project_out")
    return r @ w["embed_tokens.weight"].T, tap


def logprobs(logits, ids):
    """of tokens 1..T-1"""
    return logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]


def loss_of(logits, ids, context):
    return -logprobs(logits, ids)[context - 1 :].mean()


def analyse(c, w, ids, context):
    """Everything that reference.h5 holds of one sequence, as numpy arrays."""
    T, L, E, F = len(ids), c["L"], c["E"], c["F"]
    move = {k: [torch.zeros(T, n, requires_grad=True) for _ in range(L)] for k, n in (("a", E), ("z", F))}
    w1 = [w[f"layers.{i}.fc1.weight"].clone().requires_grad_(True) for i in range(L)]
    logits, tap = forward(c, w, ids, move, w1)
    loss = loss_of(logits, ids, context)
    g = torch.autograd.grad(loss, move["a"] + move["z"] + w1 + tap["o"], create_graph=True)
    da, dz, g1, do = (g[i * L : (i + 1) * L] for i in range(4))

    def hessian_times(grads, direction, wrt):
        return torch.autograd.grad(sum((p * q.detach()).sum() for p, q in zip(grads, direction)), wrt, retain_graph=True)

    hv = hessian_times(da + dz, da + dz, move["a"] + move["z"])
    hu = hessian_times(da + g1, [t / (T * E) for t in da] + [t / (F * E) for t in g1], move["a"] + w1)
    stack = lambda ts: np.stack([t.detach().numpy() for t in ts])
    return dict(
        loss=float(loss), logits=logits.detach().numpy(), logprob=logprobs(logits, ids).detach().numpy(),
        da=stack(da), dz=stack(dz), do=stack(do), g1=stack(g1), w1=stack(w1),
        hv_a=stack(hv[:L]), hv_z=stack(hv[L:]), hu_a=stack(hu[:L]), hu_w1=stack(hu[L:]),
        **{k: stack(v) for k, v in tap.items()})


# ---------------------------------------------------------------- criteria
def spectrum_score(rows, most):
    """jacov of some rows: minus the mean of ln(mu) + 1/mu over the eigenvalues of their correlation matrix, shrunk by a tenth."""
    good = []
    for r in rows:
        top = np.abs(r).max()
        if top > 1e-30 and np.abs(r - r.mean()).max() > 1e-6 * top:
            good.append(r)
    m = len(good)
    if m == 0:
        return -(math.log(0.1) + 10)
    if m > most:
        good = [good[i * m // most] for i in range(most)]
    unit = []
    for r in good:
        centred = r - r.mean()
        unit.append(centred / math.sqrt(centred @ centred))
    unit = np.array(unit)
    mu = 0.9 * np.maximum(np.linalg.eigvalsh(unit @ unit.T), 0) + 0.1
    return -np.mean(np.log(mu) + 1 / mu)


def criteria(c, s):
    """(sound, compat): {name: (heads [L, H], neurons [L, F])} of what analyse gave."""
    L, E, H, F = c["L"], c["E"], c["H"], c["F"]
    D, T = E // H, s["a"].shape[1]
    heads = lambda m: m.reshape(L, T, H, D)
    a, da, do, hva, hua = (heads(s[k]) for k in ("a", "da", "do", "hv_a", "hu_a"))
    z, dz, x, g1, w1 = (s[k] for k in ("z", "dz", "x", "g1", "w1"))
    gate = (a * da).sum(3)  # [L, T, H]
    sound, compat = {}, {}
    sound["plainact"] = np.abs(gate).sum(1), np.abs(w1 * g1).sum(2)
    sound["l2_norm"] = np.sqrt((a**2).sum((1, 3))), np.sqrt((np.maximum(z, 0) ** 2).sum(1))
    sound["grad_norm"] = np.sqrt((da**2).sum((1, 3))), np.sqrt((g1**2).sum(2))
    sound["fisher"] = 0.5 * (gate**2).mean(1), 0.5 * ((z * dz) ** 2).mean(1)
    sound["snip"] = np.abs(gate.sum(1)), np.abs((z * dz).sum(1))
    sound["grasp"] = (a * hva).sum((1, 3)), (z * s["hv_z"]).sum(1)
    code = (a > 0).astype(float)
    det = np.zeros((L, H))
    jh, jn = np.zeros((L, H)), np.zeros((L, F))
    for i in range(L):
        for h in range(H):
            one = code[i, :, h]
            det[i, h] = np.linalg.slogdet(np.eye(T) + (one @ one.T + (1 - one) @ (1 - one).T) / D)[1]
            jh[i, h] = spectrum_score(da[i, :, h], 200)
        for j in range(F):
            jn[i, j] = spectrum_score(dz[i, :, j, None] * x[i], 32)
    n1 = (z > 0).sum(1)
    sound["nwot"] = det, np.log(1.0 + n1) + np.log(1.0 + T - n1)
    sound["jacov"] = jh, jn

    compat["plainact"] = sound["plainact"]
    compat["l2_norm"] = sound["l2_norm"][0], np.sqrt((z**2).sum(1))
    compat["grad_norm"] = sound["grad_norm"]
    compat["fisher"] = ((a * da) ** 2).mean(1).sum(2), ((z * dz) ** 2).mean(1)
    compat["snip"] = np.abs(do).sum((1, 3)), np.abs(dz).sum(1)
    compat["grasp"] = -(a * hua).mean(1).sum(2), -(w1 * (2 * g1 + s["hu_w1"])).mean(2)
    off = (z <= 0).mean(1)
    compat["nwot"] = np.log((a <= 0).sum((1, 3))), np.where(off > 0, np.log(np.where(off > 0, off, 1)), 0)
    return sound, compat


def removal(c, w, ids, context, loss):
    L, H, F = c["L"], c["H"], c["F"]
    out = np.zeros((L, H)), np.zeros((L, F))
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


def features(s, at):
    return {k: s[t][: s["a"].shape[0], at] for k, t in (("head_output", "a"), ("residual", "res"), ("residual_mid", "mid"))}


def make(name, seed, pre_ln=True, final_ln=True, bias=True, dtype="float32", long=0, **c):
    c.update(pre_ln=pre_ln, final_ln=final_ln and pre_ln, bias=bias, dtype=dtype)
    rng = np.random.Generator(np.random.PCG64(seed))
    stored = random_weights(c, rng)
    write_checkpoint(f"opt/{name}", c, stored)
    w = {k: v.double() for k, v in stored.items()}
    seqs = [(draw_tokens(c, w, rng, n), ctx) for n, ctx in SEQUENCES]
    all_of = [analyse(c, w, *s) for s in seqs]
    with h5py.File(f"opt/{name}/reference.h5", "w", libver=("v110", "v110")) as f:

        def put(path, value, dtype=np.float32):
            value = np.asarray(value, dtype)
            f.create_dataset(path, data=value, track_times=False, **(dict(compression=9, shuffle=True) if value.size > 4000 else {}))

        def put_scores(where, results):
            """results: one (sound, compat) per sequence"""
            for m, mode in enumerate(("scores", "scores_compat")):
                for crit in results[0][m]:
                    for u, unit in enumerate(("heads", "neurons")):
                        put(f"{where}{mode}/{crit}/{unit}", [r[m][crit][u] for r in results])

        put("tokens", torch.cat([ids for ids, _ in seqs]).numpy(), np.int32)
        put("offset", np.cumsum([0] + [len(ids) for ids, _ in seqs]), np.int32)
        put("context", [ctx for _, ctx in seqs], np.int32)
        put("loss", [s["loss"] for s in all_of], np.float64)
        put("logits", np.concatenate([s["logits"] for s in all_of]))
        put("logprob", np.concatenate([s["logprob"] for s in all_of]), np.float64)
        for k in ("res", "a", "mid", "x", "z", "da", "dz", "hv_a", "hv_z", "hu_a"):
            put(k, np.concatenate([s[k] for s in all_of], 1))
        for k in ("g1", "hu_w1"):
            put(k, [s[k] for s in all_of])
        for mode, ats in (("features", [ctx - 1 for _, ctx in seqs]), ("features_compat", [-1] * len(seqs))):
            feats = [features(s, at) for s, at in zip(all_of, ats)]
            for k in feats[0]:
                put(f"{mode}/{k}", [x[k] for x in feats])
        results = [criteria(c, s) for s in all_of]
        for r, s, (ids, ctx) in zip(results, all_of, seqs):
            r[0]["removal"] = removal(c, w, ids, ctx, s["loss"])
        put_scores("", results)

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

        if long:
            ids, ctx = draw_tokens(c, w, rng, long), long // 4
            s = analyse(c, w, ids, ctx)
            put("long/tokens", ids.numpy(), np.int32)
            put("long/context", ctx, np.int32)
            put("long/loss", s["loss"], np.float64)
            for mode, at in (("features", ctx - 1), ("features_compat", -1)):
                for k, v in features(s, at).items():
                    put(f"long/{mode}/{k}", v)
            put_scores("long/", [criteria(c, s)])


if __name__ == "__main__":
    for model, spec in MODELS.items():
        make(model, **spec)
        print(model, *(f"{n} {os.path.getsize(f'opt/{model}/{n}')}" for n in sorted(os.listdir(f"opt/{model}"))))
