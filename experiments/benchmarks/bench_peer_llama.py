#!/usr/bin/env python3
"""bench_peer_llama.py - how fast llama.cpp decodes the same GGUF file: a yardstick of bin/bench, which starts it and asks it.

By the package llama-cpp-python, which pip builds for this processor, else by xllamacpp, whose ready-made build stops at AVX2. Random prompts; the time
does not depend on them. After a line that says what runs, every line on standard input is answered by the seconds of the prompt and the mean seconds of a
token after it. One sequence only.
"""
import argparse
import random
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--model", metavar="FILE", required=True, help="GGUF file")
ap.add_argument("--prompt", type=int, default=128)
ap.add_argument("--tokens", type=int, default=128)
ap.add_argument("--batch", type=int, default=1)
ap.add_argument("--threads", type=int, default=2)
args = ap.parse_args()
if args.batch != 1:
    sys.exit("bench_peer_llama.py: one sequence only")
room = args.prompt + args.tokens + 1
random.seed(1)


def some(n, vocabulary):
    return [random.randrange(vocabulary // 2, vocabulary) for _ in range(n)]  # after the special tokens


class Bindings:
    def __init__(self):
        import llama_cpp
        self.llama = llama_cpp.Llama(args.model, n_ctx=room, n_batch=args.prompt, n_ubatch=args.prompt, n_threads=args.threads, n_threads_batch=args.threads,
                                     verbose=False)
        features = llama_cpp.llama_print_system_info().decode()
        self.about = f"llama.cpp of llama-cpp-python {llama_cpp.__version__}, {features.strip(' |')}"
        self.run()

    def run(self):
        tokens = some(room, self.llama.n_vocab())
        self.llama.reset()
        start = time.perf_counter()
        self.llama.eval(tokens[:args.prompt])
        filled = time.perf_counter()
        for token in tokens[args.prompt:args.prompt + args.tokens]:
            self.llama.eval([token])
        return filled - start, (time.perf_counter() - filled) / args.tokens


class Server:
    def __init__(self):
        import xllamacpp
        p = xllamacpp.CommonParams()
        p.model.path, p.n_ctx, p.n_batch, p.n_ubatch, p.n_parallel, p.verbosity = args.model, room, args.prompt, args.prompt, 1, 0
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = args.threads
        self.server = xllamacpp.Server(p)
        self.about = f"llama.cpp of xllamacpp, {xllamacpp.get_system_info().strip(' |')}"
        self.run()

    def run(self):
        out = self.server.handle_completions({"prompt": some(args.prompt, 2000), "n_predict": args.tokens + 1, "temperature": 0, "ignore_eos": True,
                                              "cache_prompt": False})
        took = out["timings"]
        assert took["prompt_n"] == args.prompt and took["predicted_n"] == args.tokens + 1, "it did not run as many tokens as asked"
        return took["prompt_ms"] / 1e3, took["predicted_ms"] / 1e3 / args.tokens  # the first token comes with the prompt


try:
    engine = Bindings()
except ImportError:
    try:
        engine = Server()
    except ImportError as e:
        sys.exit(f"bench_peer_llama.py: neither llama_cpp nor xllamacpp: {e}")
print(engine.about, flush=True)
for line in sys.stdin:
    print("%.6f %.9f" % engine.run(), flush=True)
