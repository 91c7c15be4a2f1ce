#!/usr/bin/env python3
"""bench_peer.py - how fast other programs decode the same shape: the yardstick of bin/bench, which starts it and asks it.

Engines: torch (PyTorch + transformers' AutoModelForCausalLM, K/V cache, greedy; eager and sdpa attention are tried, the faster one is kept) and
ctranslate2 (its own converter of OPT, greedy). Random prompts; the time does not depend on them. After a line that says what runs, every line on standard
input is answered by the seconds of the prompt and the mean seconds of a token after it. Needs torch and transformers, or ctranslate2 as well.
"""
import argparse
import json
import os
import sys
import tempfile
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--engine", required=True, choices=("torch", "ctranslate2"))
ap.add_argument("--weights", default="fp32", choices=("fp32", "int8"))
ap.add_argument("--model", metavar="DIR", help="checkpoint directory")
ap.add_argument("--config", metavar="JSON", help="config.json's text: random weights")
ap.add_argument("--prompt", type=int, default=128)
ap.add_argument("--tokens", type=int, default=128)
ap.add_argument("--batch", type=int, default=1)
ap.add_argument("--threads", type=int, default=2)
args = ap.parse_args()

os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    import transformers
    if args.engine == "ctranslate2":
        import ctranslate2
        from ctranslate2.converters.transformers import OPTLoader
except ImportError as e:
    sys.exit(f"bench_peer.py: {e}")

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)
torch.manual_seed(1)
if args.model:
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
else:
    what = json.loads(args.config)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(what.pop("model_type"), **what)).float()
if args.engine == "ctranslate2" and model.config.model_type != "opt":
    sys.exit("bench_peer.py: ctranslate2 converts OPT here only")
model.eval()
vocabulary = model.config.vocab_size


def prompts():
    return torch.randint(4, vocabulary, (args.batch, args.prompt))


class Torch:
    def __init__(self):
        took = {}
        for name in ("sdpa", "eager"):
            model.set_attn_implementation(name)
            self.run(4)
            took[name] = self.run(8)[1]
        best = min(took, key=took.get)
        model.set_attn_implementation(best)
        self.about = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {best} attention"

    @torch.inference_mode()
    def run(self, tokens):
        start = time.perf_counter()
        out = model(input_ids=prompts(), use_cache=True, logits_to_keep=1)
        filled = time.perf_counter()
        for _ in range(tokens):
            out = model(input_ids=out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
        return filled - start, (time.perf_counter() - filled) / tokens


class CTranslate2:
    def __init__(self):
        loader = OPTLoader()
        spec = loader.get_model_spec(model)
        spec.register_vocabulary([f"t{i}" for i in range(vocabulary)])
        spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "t2"
        spec.validate()
        spec.optimize(quantization="int8" if args.weights == "int8" else None)
        with tempfile.TemporaryDirectory() as folder:
            spec.save(folder)
            self.generator = ctranslate2.Generator(folder, device="cpu", compute_type="int8" if args.weights == "int8" else "float32", inter_threads=1,
                                                   intra_threads=args.threads)
        self.about = f"CTranslate2 {ctranslate2.__version__}, {self.generator.compute_type}"
        self.run(4)

    def timed(self, new):
        start = [[f"t{i}" for i in row] for row in prompts().tolist()]
        begin = time.perf_counter()
        out = self.generator.generate_batch(start, max_length=new, min_length=new, sampling_topk=1, include_prompt_in_result=False)
        took = time.perf_counter() - begin
        assert all(len(r.sequences_ids[0]) == new for r in out), "it did not generate as many tokens as asked"
        return took

    def run(self, tokens):
        first = self.timed(1)  # the first token comes with the prompt
        return first, (self.timed(1 + tokens) - first) / tokens


engine = Torch() if args.engine == "torch" else CTranslate2()
if args.engine == "ctranslate2":
    del model
print(engine.about, flush=True)
for line in sys.stdin:
    prompt, token = engine.run(args.tokens)
    print(f"{prompt:.6f} {token:.9f}", flush=True)
