#!/usr/bin/env python3
"""check_transformers.py - loads checkpoint directories with Hugging Face transformers and compares what it says with a reference.

  check_transformers.py DIR...                   it loads, its tokenizer, too, and every logit is finite; with DIR/reference.h5 (the golden
                                                 models) the logits must agree
  check_transformers.py DIR --tokens 5,17,4 --logprobs FILE
                                                 FILE holds one number a line: log p of tokens 2, 3, .. as another program computed them
Needs torch, transformers, h5py. Computes in float64. Exit 0: everything agrees; 1: not.
"""
import argparse
import os
import sys

import h5py
import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids, np.int64))[None]).logits[0]


def worst(got, want):
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), np.sqrt((want**2).mean()))))


def check(folder, args):
    """-> list of (what, error, tolerance)"""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").double().eval()
    c = model.config
    print(f"{folder}: {c.num_hidden_layers} layers, {c.num_attention_heads} heads, width {c.hidden_size}, {sum(p.numel() for p in model.parameters())} parameters")
    found = []
    if os.path.exists(f"{folder}/vocab.json"):
        tok = transformers.GPT2Tokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt")
        text = "The red kettle isn't in Anna's kitchen; it's 12 steps away."
        ids = tok(text)["input_ids"]
        found.append(("tokenizer gives the text back", float(tok.decode(ids, clean_up_tokenization_spaces=False) != text), 0))
        found.append(("ids below the vocabulary", float(max(ids) >= c.vocab_size), 0))
        found.append(("logits of a sentence are finite", float(not torch.isfinite(logits(model, ids)).all()), 0))
    if os.path.exists(f"{folder}/reference.h5"):
        with h5py.File(f"{folder}/reference.h5") as f:
            at = f["offset"][:]
            got = np.concatenate([logits(model, f["tokens"][a:b]).numpy() for a, b in zip(at, at[1:])])
            rounds = 1e-5 if hasattr(c, "rms_norm_eps") else 1e-6  # transformers computes RMSNorm in float32
            found.append(("logits equal the reference", worst(got, f["logits"][:].astype(np.float64)), rounds))
    if args.tokens:
        ids = [int(t) for t in args.tokens.split(",")]
        lp = logits(model, ids).log_softmax(-1)[range(len(ids) - 1), ids[1:]].numpy()
        given = np.loadtxt(args.logprobs, ndmin=1)
        found.append(("log-probabilities equal the given ones", worst(given, lp) if given.shape == lp.shape else np.inf, args.tol))
    return found


ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("folder", nargs="+")
ap.add_argument("--tokens", help="ids, comma separated")
ap.add_argument("--logprobs", metavar="FILE")
ap.add_argument("--tol", type=float, default=1e-4, help="relative to the value or the root mean square [1e-4]")
args = ap.parse_args()
if bool(args.tokens) != bool(args.logprobs):
    ap.error("--tokens and --logprobs belong together")
bad = 0
for folder in args.folder:
    for what, error, tol in check(folder, args):
        ok = error <= tol
        bad += not ok
        print(f"  {'ok ' if ok else 'FAR'} {what}" + (f": error {error:.2e}, tolerance {tol:g}" if tol else ""))
sys.exit(bad != 0)
