#!/usr/bin/env python3
"""standard.py make FOLDER OUT               a random Llama of six heads, each with a KV head of its own, with the tokenizer of FOLDER
standard.py compare MODEL SMALL STORE [MEANS]
                                          SMALL, which bin/prune made of MODEL with a mask, in transformers: it loads without a word of missing or
                                          other tensors; its logits on the examples of STORE are those of MODEL whose pruned heads and neurons are
                                          set to zero there, or to the means of MEANS (aggregates of flap); the losses of STORE, which bin/score took on SMALL, are its own.
Exit 1 and a line where something differs. Needs torch, transformers, h5py; computes in float64."""
import os
import shutil
import sys

import h5py
import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# a layer's module that reads the head outputs, and the one that reads the neurons
READERS = {"opt": ("model.decoder.layers.%d.self_attn.out_proj", "model.decoder.layers.%d.fc2"),
           "gpt_neox": ("gpt_neox.layers.%d.attention.dense", "gpt_neox.layers.%d.mlp.dense_4h_to_h")}
LLAMA = ("model.layers.%d.self_attn.o_proj", "model.layers.%d.mlp.down_proj")


def make(folder, out):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=6, head_dim=4, intermediate_size=30,
                                      vocab_size=264, max_position_embeddings=600, initializer_range=0.3, bos_token_id=1, eos_token_id=2)
    transformers.LlamaForCausalLM(config).save_pretrained(out)
    for name in os.listdir(folder):
        if name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(f"{folder}/{name}", out)


def load(folder):
    model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True,
                                                                     trust_remote_code=True)
    wrong = {k: v for k, v in told.items() if v}
    if wrong: sys.exit(f"FAIL: transformers says of {folder}: {wrong}")
    return model.eval()


def prune(model, path, means):
    """What pruned heads and neurons put out, by the mask of `path`, becomes 0 or its mean."""
    with h5py.File(path) as f:
        keep = {k: torch.from_numpy(f[f"mask/{k}"][()].astype(np.float64)) for k in ("heads", "neurons")}
    for kind, name in zip(("heads", "neurons"), READERS.get(model.config.model_type, LLAMA)):
        for layer, row in enumerate(keep[kind]):
            module = model.get_submodule(name % layer)
            stays = row.repeat_interleave(module.in_features // len(row)).bool()
            put_out = torch.zeros(len(stays), dtype=torch.float64)
            if means:
                with h5py.File(means) as f:
                    put_out = torch.from_numpy(f[f"aggregates/all/flap/{kind}_mean"][layer])
            module.register_forward_pre_hook(lambda m, args, stays=stays, put_out=put_out: (torch.where(stays, args[0], put_out),))


def compare(source, folder, store, means=None):
    small, whole = load(folder), load(source)
    prune(whole, f"{folder}/mask.h5", means)
    with h5py.File(store) as s:
        tokens, offset, context, loss = (s[f"examples/{k}"][()] for k in ("tokens", "offset", "context_length", "loss"))
    for i, want in enumerate(loss):
        ids = torch.from_numpy(tokens[offset[i] : offset[i + 1]].astype(np.int64))
        with torch.no_grad():
            got, masked = small(ids[None]).logits[0], whole(ids[None]).logits[0]
        off = float((got - masked).abs().max() / masked.abs().max())
        mine = float(torch.nn.functional.cross_entropy(got[context[i] - 1 : -1], ids[context[i] :]))
        if not off < (1e-6 if means else 1e-9): sys.exit(f"FAIL: logits differ from those of the masked source by {off:.1e} of the largest")
        if not abs(mine - want) < 2e-5 * abs(mine): sys.exit(f"FAIL: example {i}: loss {want}, in transformers {mine}")
    greedy = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    texts = [small.generate(ids[None, :5], use_cache=cache, **greedy) for cache in (True, False)]
    if not torch.equal(*texts): sys.exit("FAIL: with a cache another text")
    print(f"{folder}: {small.config.model_type}, {len(loss)} examples, logits of the masked source within {off:.0e}")


{"make": make, "compare": compare}[sys.argv[1]](*sys.argv[2:])
