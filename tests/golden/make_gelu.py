#!/usr/bin/env python3
"""make_gelu.py - small GPT-NeoX and Galactica checkpoints and what Hugging Face's transformers says about them, in float64: gelu/NAME/{config.json,
model.safetensors, reference.h5}. The counterpart of make_opt.py and make_llama.py, with their form and their formulas of criteria, but the model is
transformers' own: hooks take the taps of its modules and move them, every gradient is autograd's, every Hessian-vector product a second autograd pass,
every removal a forward pass of its own. Run it in this folder (torch, transformers 5, h5py); it takes a minute and gives the same numbers again.

reference.h5 as in make_llama.py, but for u and du, with hv_z in place of hv_r: H v in the space of all a and z, v = (da, dz); r = gelu(z).
"""
import json
import os

import h5py
import numpy as np
import torch
import transformers

from make_opt import NEAR, SEQUENCES, logprobs, loss_of, spectrum_score, write_tokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.set_default_dtype(torch.float32)

NEOX = dict(model_type="gpt_neox", hidden_act="gelu", bos_token_id=1, eos_token_id=2, layer_norm_eps=1e-5, initializer_range=0.3)
MODELS = {
    "parallel": dict(NEOX, E=24, L=3, H=3, F=28, V=264, positions=600, seed=31, rotary_emb_base=100, rotary_pct=0.5),
    "sequential": dict(NEOX, E=20, L=2, H=2, F=26, V=61, positions=24, seed=32, hidden_act="gelu_new", rotary_emb_base=10000, rotary_pct=1.0,
                       use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True),
    "galactica": dict(model_type="opt", E=24, L=2, H=4, F=30, V=62, positions=24, seed=33, activation_function="gelu", enable_bias=False,
                      layer_norm_elementwise_affine=False, bos_token_id=0, eos_token_id=2, pad_token_id=1),
}
# of a layer: the norm before attention, the module that reads the head outputs, the norm before the FFN, its two matrices
NAMES = {"gpt_neox": ("gpt_neox.layers.%d", "input_layernorm", "attention.dense", "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
         "opt": ("model.decoder.layers.%d", "self_attn_layer_norm", "self_attn.out_proj", "final_layer_norm", "fc1", "fc2")}


def build(c):
    """The model in transformers, weights from numpy's PCG64 in the order of its parameters."""
    keys = {k: v for k, v in c.items() if k not in "ELHFV" and k not in ("positions", "seed", "model_type")}
    if c["model_type"] == "opt":
        keys.update(ffn_dim=c["F"], word_embed_proj_dim=c["E"], dropout=0.0)
    else:
        keys.update(intermediate_size=c["F"])
    config = transformers.AutoConfig.for_model(c["model_type"], hidden_size=c["E"], num_hidden_layers=c["L"], num_attention_heads=c["H"], vocab_size=c["V"],
                                               max_position_embeddings=c["positions"], **keys)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    rng = np.random.Generator(np.random.PCG64(c["seed"]))
    with torch.no_grad():
        for name, w in model.named_parameters():
            scale, centre = 0.25, 0.0
            if w.dim() > 1:
                scale = 0.6 if "embed" in name else 1.3 * w.shape[1] ** -0.5
            elif "norm.weight" in name:
                scale, centre = 0.2, 1.0
            w.copy_(torch.from_numpy(rng.standard_normal(tuple(w.shape)) * scale + centre))
    return model, rng


class Hooked:
    """A model in float64 whose taps are kept, moved and switched off by hooks."""

    def __init__(self, model, c):
        self.model, self.c = model.double().eval(), c
        root, one, dense, two, first, second = NAMES[c["model_type"]]
        self.tap, self.move, self.keep = {}, None, None
        for i in range(c["L"]):
            at = lambda name: model.get_submodule(f"{root % i}.{name}")
            at(one).register_forward_pre_hook(self.see("res", i))
            at(dense).register_forward_pre_hook(self.head_outputs(i))
            at(dense).register_forward_hook(self.output(i))
            at(two).register_forward_hook(lambda m, args, out, i=i: self.note("x", i, out))
            at(first).register_forward_hook(self.hidden(i))
            at(second).register_forward_pre_hook(self.neurons(i))
            model.get_submodule(root % i).register_forward_hook(self.leaves(i))

    def note(self, what, i, value):
        self.tap.setdefault(what, {})[i] = value if value.dim() == 2 else value.reshape(-1, value.shape[-1])

    def see(self, what, i):
        return lambda m, args: self.note(what, i, args[0])

    def off(self, kind, i, value):
        """Units that are switched off, at positions from `since` on."""
        if self.keep is None or kind not in self.keep:
            return value
        late = (torch.arange(self.T) >= self.since).double()[:, None]
        width = value.shape[-1] // self.keep[kind].shape[1]
        return value * (1 - late * (1 - self.keep[kind][i].repeat_interleave(width)))

    def head_outputs(self, i):
        def hook(m, args):
            a = args[0]
            if self.move is not None:
                a = a + self.move["a"][i].reshape(a.shape)
            self.note("a", i, a)
            return (self.off("heads", i, a),)
        return hook

    def output(self, i):
        return lambda m, args, out: self.note("mid", i, self.tap["res"][i].reshape(out.shape) + out)

    def hidden(self, i):
        def hook(m, args, z):
            if self.move is not None:
                z = z + self.move["z"][i].reshape(z.shape)
            self.note("z", i, z)
            return z
        return hook

    def neurons(self, i):
        def hook(m, args):
            r = args[0].reshape(-1, args[0].shape[-1])
            self.note("r", i, r)
            return (self.off("neurons", i, r).reshape(args[0].shape),)
        return hook

    def leaves(self, i):
        return lambda m, args, out: self.note("res", i + 1, out[0] if isinstance(out, tuple) else out)

    def __call__(self, ids, move=None, since=0, **keep):
        """Logits [T, V] and the taps by name, a list over layers each."""
        self.tap, self.move, self.keep, self.since, self.T = {}, move, keep or None, since, len(ids)
        logits = self.model(ids[None], use_cache=False).logits[0]
        return logits, {k: [v[i] for i in sorted(v)] for k, v in self.tap.items()}


def analyse(model, ids, context):
    """Everything that reference.h5 holds of one sequence, as numpy arrays."""
    c = model.c
    T, L = len(ids), c["L"]
    move = {k: [torch.zeros(T, n, dtype=torch.float64, requires_grad=True) for _ in range(L)] for k, n in (("a", c["E"]), ("z", c["F"]))}
    logits, tap = model(ids, move)
    loss = loss_of(logits, ids, context)
    g = torch.autograd.grad(loss, move["a"] + move["z"] + tap["r"], create_graph=True)
    da, dz, dr = (g[i * L : (i + 1) * L] for i in range(3))
    hv = torch.autograd.grad(sum((p * p.detach()).sum() for p in (*da, *dz)), move["a"] + move["z"])
    stack = lambda ts: np.stack([t.detach().numpy() for t in ts])
    root, first = NAMES[c["model_type"]][0], NAMES[c["model_type"]][4]
    w1 = stack([model.model.get_submodule(f"{root % i}.{first}").weight for i in range(L)])
    return dict(
        loss=float(loss.detach()), logits=logits.detach().numpy(), logprob=logprobs(logits, ids).detach().numpy(), da=stack(da), dz=stack(dz), dr=stack(dr),
        hv_a=stack(hv[:L]), hv_z=stack(hv[L:]), w1=w1, **{k: stack(v) for k, v in tap.items()})


def criteria(c, s):
    """{name: (heads [L, H], neurons [L, F])} of what analyse gave."""
    L, H, F = c["L"], c["H"], c["F"]
    D, T = c["E"] // H, s["a"].shape[1]
    heads = lambda m: m.reshape(L, T, H, D)
    a, da, hva = (heads(s[k]) for k in ("a", "da", "hv_a"))
    z, dz, r, dr, x, w1 = (s[k] for k in ("z", "dz", "r", "dr", "x", "w1"))
    gate, g1 = (a * da).sum(3), np.einsum("ltf,lte->lfe", dz, x)
    out = {}
    out["plainact"] = np.abs(gate).sum(1), np.abs(w1 * g1).sum(2)
    out["l2_norm"] = np.sqrt((a**2).sum((1, 3))), np.sqrt((r**2).sum(1))
    out["grad_norm"] = np.sqrt((da**2).sum((1, 3))), np.sqrt((g1**2).sum(2))
    out["fisher"] = 0.5 * (gate**2).mean(1), 0.5 * ((r * dr) ** 2).mean(1)
    out["snip"] = np.abs(gate.sum(1)), np.abs((r * dr).sum(1))
    out["grasp"] = (a * hva).sum((1, 3)), (z * s["hv_z"]).sum(1)
    code = (a > 0).astype(float)
    det, jh, jn = np.zeros((L, H)), np.zeros((L, H)), np.zeros((L, F))
    for i in range(L):
        for h in range(H):
            one = code[i, :, h]
            det[i, h] = np.linalg.slogdet(np.eye(T) + (one @ one.T + (1 - one) @ (1 - one).T) / D)[1]
            jh[i, h] = spectrum_score(da[i, :, h], 200)
        for j in range(F):
            jn[i, j] = spectrum_score(dz[i, :, j, None] * x[i], 32)
    n1 = (z > 0).sum(1)
    out["nwot"] = det, np.log(1.0 + n1) + np.log(1.0 + T - n1)
    out["jacov"] = jh, jn
    return out


def removal(model, ids, context, loss):
    c = model.c
    out = np.zeros((c["L"], c["H"])), np.zeros((c["L"], c["F"]))
    with torch.no_grad():
        for kind, scores in zip(("heads", "neurons"), out):
            for at in np.ndindex(*scores.shape):
                keep = torch.ones(*scores.shape, dtype=torch.float64)
                keep[at] = 0
                scores[at] = float(loss_of(model(ids, **{kind: keep})[0], ids, context)) - loss
    return out


def draw_tokens(model, rng, n):
    """Random ids whose taps all keep away from zero, so that single precision sees the same signs. A few ids come often."""
    while True:
        ids = rng.integers(4, model.c["V"], n)
        few = rng.integers(4, model.c["V"], 5)
        often = rng.random(n) < 0.3
        ids[often] = few[rng.integers(0, 5, n)][often]
        ids = torch.from_numpy(ids)
        with torch.no_grad():
            tap = model(ids)[1]
        if min(float(t.abs().min() / t.square().mean().sqrt()) for t in tap["a"] + tap["z"]) > NEAR:
            return ids


def make(name, c):
    folder = f"gelu/{name}"
    stored, rng = build(c)
    stored.save_pretrained(folder)
    for extra in ("generation_config.json",):
        if os.path.exists(f"{folder}/{extra}"):
            os.remove(f"{folder}/{extra}")
    if c["V"] >= 260:
        write_tokenizer(folder, c["V"])
    model = Hooked(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager"), c)
    seqs = [(draw_tokens(model, rng, n), ctx) for n, ctx in SEQUENCES]
    all_of = [analyse(model, *s) for s in seqs]
    with h5py.File(f"{folder}/reference.h5", "w", libver=("v110", "v110")) as f:

        def put(path, value, dtype=np.float32):
            value = np.asarray(value, dtype)
            f.create_dataset(path, data=value, track_times=False, **(dict(compression=9, shuffle=True) if value.size > 4000 else {}))

        put("tokens", torch.cat([ids for ids, _ in seqs]).numpy(), np.int32)
        put("offset", np.cumsum([0] + [len(ids) for ids, _ in seqs]), np.int32)
        put("context", [ctx for _, ctx in seqs], np.int32)
        put("loss", [s["loss"] for s in all_of], np.float64)
        put("logits", np.concatenate([s["logits"] for s in all_of]))
        put("logprob", np.concatenate([s["logprob"] for s in all_of]), np.float64)
        for k in ("res", "a", "mid", "x", "z", "r", "da", "dz", "dr", "hv_a", "hv_z"):
            put(k, np.concatenate([s[k] for s in all_of], 1))
        for k, t in (("head_output", "a"), ("residual", "res"), ("residual_mid", "mid")):
            put(f"features/{k}", [s[t][: c["L"], ctx - 1] for s, (_, ctx) in zip(all_of, seqs)])
        results = [criteria(c, s) for s in all_of]
        for r, s, (ids, ctx) in zip(results, all_of, seqs):
            r["removal"] = removal(model, ids, ctx, s["loss"])
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
        with torch.no_grad():
            for m in range(len(heads)):
                kept = dict(heads=torch.from_numpy(heads[m].astype(float)), neurons=torch.from_numpy(neurons[m].astype(float)))
                got = [(ids, model(ids, since=int(since[m, i]), **kept)[0]) for i, (ids, _) in enumerate(seqs)]
                lp.append(np.concatenate([logprobs(y, ids).numpy() for ids, y in got]))
                last.append([y[-1].numpy() for _, y in got])
        put("mask/logprob", lp, np.float64)
        put("mask/last", last)


if __name__ == "__main__":
    for model, spec in MODELS.items():
        make(model, spec)
        print(model, *(f"{n} {os.path.getsize(f'gelu/{model}/{n}')}" for n in sorted(os.listdir(f"gelu/{model}"))))
