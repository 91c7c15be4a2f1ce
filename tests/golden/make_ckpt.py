"""Makes tests/golden/ckpt: tiny OPT checkpoints in every published file form, and pickles that must be refused.

Run from the repository root with a Python that has PyTorch and numpy (made with Debian 12's python3-torch 1.13). Element i of tensor NAME
(short name) is ((sum of NAME's bytes + 7 i) mod 61 - 30) / 16, exact in fp32, fp16 and bf16; tests/test_ckpt.c computes it again.
"""
import argparse
import collections
import json
import os
import pathlib
import shutil
import struct
import zipfile

import torch

OUT = "tests/golden/ckpt"
TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CONFIG = {
    "_name_or_path": "tiny", "_remove_final_layer_norm": False, "activation_function": "relu", "architectures": ["OPTForCausalLM"],
    "attention_dropout": 0.0, "bos_token_id": 2, "do_layer_norm_before": True, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 10,
    "hidden_size": 6, "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 5, "model_type": "opt", "num_attention_heads": 2,
    "num_hidden_layers": 2, "pad_token_id": 1, "prefix": "</s>", "torch_dtype": "float16", "transformers_version": "4.21.0",
    "use_cache": True, "vocab_size": 11, "word_embed_proj_dim": 6}


def shapes(c):
    e, f, p = c["hidden_size"], c["ffn_dim"], c["word_embed_proj_dim"]
    s = {"embed_tokens.weight": (c["vocab_size"], p), "embed_positions.weight": (c["max_position_embeddings"] + 2, e)}
    if p != e:
        s |= {"project_in.weight": (e, p), "project_out.weight": (p, e)}
    for i in range(c["num_hidden_layers"]):
        dims = {"self_attn.k_proj": (e, e), "self_attn.v_proj": (e, e), "self_attn.q_proj": (e, e), "self_attn.out_proj": (e, e),
                "self_attn_layer_norm": (e,), "fc1": (f, e), "fc2": (e, f), "final_layer_norm": (e,)}
        for name, d in dims.items():
            s[f"layers.{i}.{name}.weight"] = d
            if c.get("enable_bias", True) or "norm" in name:
                s[f"layers.{i}.{name}.bias"] = d[:1]
    if c["do_layer_norm_before"] and not c["_remove_final_layer_norm"]:
        s |= {"final_layer_norm.weight": (e,), "final_layer_norm.bias": (e,)}
    return s


def make(config, types, prefix):
    """name -> tensor; types are dealt out in turn."""
    out = collections.OrderedDict()
    for k, (name, shape) in enumerate(shapes(config).items()):
        i = torch.arange(torch.Size(shape).numel())
        x = ((sum(name.encode()) + 7 * i) % 61 - 30).float() / 16
        out[prefix + name] = x.reshape(shape).to(TORCH[types[k % len(types)]])
    return out


def folder(name, config):
    path = os.path.join(OUT, name)
    os.makedirs(path)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    return path


def save_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in tensors.items():
        raw = t.contiguous().view(torch.int32 if t.dtype == torch.float32 else torch.int16).numpy().tobytes()
        code = {v: k for k, v in TORCH.items()}[t.dtype]
        header[name] = {"dtype": code, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def save_shards(path, tensors, suffix, save):
    names = list(tensors)
    half = len(names) // 2
    weight_map = {}
    for i, part in enumerate((names[:half], names[half:])):
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        file = f"{stem}-{i + 1:05}-of-00002.{suffix}"
        save(os.path.join(path, file), collections.OrderedDict((n, tensors[n]) for n in part))
        weight_map |= {n: file for n in part}
    index = {"metadata": {"total_size": sum(t.nelement() * t.element_size() for t in tensors.values())}, "weight_map": weight_map}
    with open(os.path.join(path, f"{stem}.{suffix}.index.json"), "w") as f:
        json.dump(index, f, indent=2)


def save_bin(path, tensors):
    torch.save(tensors, path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil-was-here",)


def training(x):
    """What training scripts save beside the weights."""
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(4)).sum().backward()
    optimizer.step()
    return {"model": {"fc1.weight": torch.nn.Parameter(x)}, "optimizer": optimizer.state_dict(), "args": argparse.Namespace(lr=1e-3), "rng": torch.get_rng_state(),
            "step": 10**12, "big": 10**30, "neg": -5, "loss": [1.5, float("nan")], "set": {1, 2}, "none": None, "bytes": b"abc", "dtype": torch.float16,
            "size": torch.Size([2, 3]), "device": torch.device("cpu"), "lists": collections.defaultdict(list, a=[1]), "tuple": (1, (2, 3)),
            "wide": torch.ones(2, dtype=torch.complex64), "expanded": torch.ones(2).expand(4, 2), "path": pathlib.PurePosixPath("x")}


def main():
    torch.manual_seed(0)
    shutil.rmtree(OUT, ignore_errors=True)
    # one safetensors, fp32, tied head written out
    ts = make(CONFIG, ["F32"], "model.decoder.")
    ts["lm_head.weight"] = ts["model.decoder.embed_tokens.weight"]
    save_safetensors(os.path.join(folder("st", CONFIG), "model.safetensors"), ts)
    # two shards, bf16, no "model.", no final norm, no biases
    bare = CONFIG | {"_remove_final_layer_norm": True, "enable_bias": False, "torch_dtype": "bfloat16"}
    save_shards(folder("st_shards", bare), make(bare, ["BF16"], "decoder."), "safetensors", save_safetensors)
    # one .bin, fp16, as a module's state_dict: OrderedDict with _metadata, head and embedding in one storage
    ts = make(CONFIG, ["F16"], "model.decoder.")
    ts["lm_head.weight"] = ts["model.decoder.embed_tokens.weight"]
    ts._metadata = collections.OrderedDict({"": {"version": 1}, "model.decoder": {"version": 1}})
    save_bin(os.path.join(folder("bin", CONFIG), "pytorch_model.bin"), ts)
    # two .bin, types mixed
    save_shards(folder("bin_shards", CONFIG), make(CONFIG, ["F32", "BF16", "F16"], "decoder."), "bin", save_bin)
    # OPT-350m's form; all tensors are views into one storage; fairseq's version
    post = CONFIG | {"do_layer_norm_before": False, "word_embed_proj_dim": 4}
    ts = make(post, ["F16"], "decoder.")
    flat = torch.cat([t.reshape(-1) for t in ts.values()])
    views, at = {"decoder.version": torch.tensor([3.0])}, 0
    for name, t in ts.items():
        views[name] = flat[at:at + t.nelement()].view(t.shape)
        at += t.nelement()
    save_bin(os.path.join(folder("bin_350m", post), "pytorch_model.bin"), views)
    # to be refused, and other forms of the same tensor
    bad, other = os.path.join(OUT, "bad"), os.path.join(OUT, "other")
    os.makedirs(bad)
    os.makedirs(other)
    x = torch.arange(12.0).reshape(3, 4)
    save_bin(os.path.join(bad, "evil.bin"), {"fc1.weight": x, "fc1.bias": Evil()})
    save_bin(os.path.join(other, "transposed.bin"), {"fc1.weight": x.t()})
    save_bin(os.path.join(other, "long.bin"), {"ids": torch.arange(3)})
    save_bin(os.path.join(other, "nested.bin"), {"model": {"fc1.weight": x}})
    save_bin(os.path.join(bad, "overlap.bin"), {"a": x.view(-1)[:8], "b": x.view(-1)[4:]})
    save_bin(os.path.join(other, "parameter.bin"), {"fc1.weight": torch.nn.Parameter(x)})
    save_bin(os.path.join(other, "training.bin"), training(x))
    torch.save({"fc1.weight": x}, os.path.join(other, "old_form.bin"), _use_new_zipfile_serialization=False)
    torch.save({"fc1.weight": x}, os.path.join(other, "protocol4.bin"), pickle_protocol=4)
    save_bin(os.path.join(bad, "plain.bin"), {"fc1.weight": x})
    with zipfile.ZipFile(os.path.join(bad, "plain.bin")) as a, zipfile.ZipFile(os.path.join(bad, "compressed.bin"), "w", zipfile.ZIP_DEFLATED) as b:
        for e in a.infolist():
            b.writestr(zipfile.ZipInfo(e.filename), a.read(e), zipfile.ZIP_DEFLATED)
    for name in ("plain", "evil", "nested", "overlap"):  # seeds of tests/fuzz_pickle.c
        with zipfile.ZipFile(os.path.join(other if name == "nested" else bad, name + ".bin")) as a, open(os.path.join(OUT, name + ".pkl"), "wb") as f:
            f.write(a.read(name + "/data.pkl"))
    os.rename(os.path.join(bad, "plain.bin"), os.path.join(OUT, "plain.bin"))  # the one good one: tests damage copies of it


if __name__ == "__main__":
    main()
