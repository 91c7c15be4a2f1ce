#!/usr/bin/env python3
"""bench_score_peer.py - how fast PyTorch + transformers does the forward-backward pass that scoring rests on: the yardstick of bin/bench_score.

One full pass per batch: AutoModelForCausalLM in fp32 or another --dtype, logits of all positions, mean cross-entropy of the continuation, gradients of all weights;
random tokens (the time does not depend on them). Both attention implementations are tried, the faster one is kept.

With --serve, bin/bench_score drives it: after a line of JSON that says what runs, every line "N" on standard input is answered by the
seconds that N batches took. Without it, it times --batches batches and prints tokens/s. Needs torch and transformers.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--model", metavar="DIR", help="checkpoint directory; without it random weights of --shape")
ap.add_argument("--shape", default="12,12,768,3072,50272,2048", metavar="L,H,E,F,V,P",
                help="layers, heads, hidden size, neurons, vocabulary, positions [OPT-125m's: %(default)s]")
ap.add_argument("--batch", type=int, default=1, help="examples of a batch [%(default)s]")
ap.add_argument("--batches", type=int, default=6, help="batches that are timed, without --serve [%(default)s]")
ap.add_argument("--tokens", type=int, default=512, help="tokens of an example [%(default)s]")
ap.add_argument("--continuation", type=int, default=16, help="the last of them, which have a loss [%(default)s]")
ap.add_argument("--threads", type=int, default=2, help="[%(default)s]")
ap.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="of all its numbers [%(default)s]")
ap.add_argument("--attention", default="faster", choices=("faster", "sdpa", "eager"), help="[%(default)s]")
ap.add_argument("--serve", action="store_true", help="be driven by bin/bench_score")
args = ap.parse_args()

os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    import transformers
except ImportError as e:
    sys.exit(f"bench_score_peer.py: {e}; pip install torch transformers")

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)
torch.manual_seed(1)
dtype = getattr(torch, args.dtype)
L, H, E, F, V, P = (int(x) for x in args.shape.split(","))
if args.model:
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
else:
    model = transformers.OPTForCausalLM(transformers.OPTConfig(num_hidden_layers=L, num_attention_heads=H, hidden_size=E, word_embed_proj_dim=E,
                                                               ffn_dim=F, vocab_size=V, max_position_embeddings=P))
model = model.to(dtype).eval()


def run(batches):
    """Seconds of each of some batches."""
    seconds = []
    for _ in range(batches):
        ids = torch.randint(4, model.config.vocab_size, (args.batch, args.tokens))
        labels = ids.clone()
        labels[:, : args.tokens - args.continuation] = -100
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        seconds.append(time.perf_counter() - start)
        assert torch.isfinite(loss), "the loss is not finite"
        model.zero_grad(set_to_none=True)
    return seconds


attention = {}
for name in ("sdpa", "eager") if args.attention == "faster" else (args.attention,):
    model.set_attn_implementation(name)
    attention[name] = min(run(3)[1:])
best = min(attention, key=attention.get)
model.set_attn_implementation(best)
about = dict(torch=torch.__version__, transformers=transformers.__version__, attention=best, dtype=args.dtype)
if args.serve:
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(f"{sum(run(int(line))):.6f}", flush=True)
else:
    seconds = run(args.batches)
    tokens = args.batch * args.tokens
    print("PyTorch {torch}, transformers {transformers}, {attention}, {dtype}, ".format(**about) +
          f"{args.threads} threads, {args.batch} x {args.tokens} tokens of which {args.continuation} scored: "
          f"{tokens / min(seconds):.1f} tokens/s (fastest batch), {tokens / statistics.median(seconds):.1f} (median), "
          f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
