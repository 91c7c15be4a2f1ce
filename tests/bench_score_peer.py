#!/usr/bin/env python3
"""bench_score_peer.py - how fast PyTorch + transformers does the forward-backward pass that scoring rests on; the yardstick of `score`.

One full pass per example: logits of all positions, mean cross-entropy of the continuation, gradients of all weights. fp32, random
tokens (the time does not depend on them). Every example is timed; printed: tokens/s of the fastest and the median example, peak memory.

  bench_score_peer.py --model DIR      a checkpoint directory, the same that our own bench is given
  bench_score_peer.py                  OPT-125m's shape with random weights
Needs torch and transformers (pip install torch transformers).
"""
import argparse
import json
import os
import resource
import statistics
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--model", metavar="DIR", help="checkpoint directory; without it OPT-125m's shape and random weights")
ap.add_argument("--examples", type=int, default=6, help="examples that are timed, after one that is not [6]")
ap.add_argument("--tokens", type=int, default=512, help="tokens of an example [512]")
ap.add_argument("--continuation", type=int, default=16, help="the last of them, which have a loss [16]")
ap.add_argument("--threads", type=int, default=2, help="[2]")
ap.add_argument("--attention", default="sdpa", choices=("sdpa", "eager"), help="transformers' implementation; sdpa is its default [sdpa]")
ap.add_argument("--json", action="store_true", help="one line of JSON instead of text")
args = ap.parse_args()

os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)
torch.manual_seed(1)
if args.model:
    model = transformers.OPTForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation=args.attention)
else:
    model = transformers.OPTForCausalLM(transformers.OPTConfig(attn_implementation=args.attention))  # the defaults are OPT-125m
model = model.float().eval()

seconds = []
for i in range(args.examples + 1):
    ids = torch.randint(4, model.config.vocab_size, (1, args.tokens))
    labels = ids.clone()
    labels[0, : args.tokens - args.continuation] = -100
    start = time.perf_counter()
    loss = model(input_ids=ids, labels=labels, use_cache=False).loss
    loss.backward()
    seconds.append(time.perf_counter() - start)
    assert torch.isfinite(loss), "the loss is not finite"
    model.zero_grad(set_to_none=True)
seconds = seconds[1:]
result = dict(
    model=args.model or "opt-125m shape, random weights", tokens=args.tokens, continuation=args.continuation, threads=args.threads,
    attention=args.attention, torch=torch.__version__, transformers=transformers.__version__,
    tokens_per_s_best=args.tokens / min(seconds), tokens_per_s_median=args.tokens / statistics.median(seconds),
    peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
if args.json:
    print(json.dumps(result))
else:
    print("PyTorch {torch}, transformers {transformers}, {threads} threads, {attention}: {model}, {tokens} tokens of which {continuation} scored".format(**result))
    print("{tokens_per_s_best:.1f} tokens/s (fastest example), {tokens_per_s_median:.1f} (median), peak memory {0:.2f} GB".format(result["peak_bytes"] / 1e9, **result))
