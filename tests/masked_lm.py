# masked_lm.py - a model of this project, under any mask, as a model of lm-evaluation-harness: whatever of its tasks asks
# for log-likelihoods of continuations runs on it (`sweep --requests`). With MMLU under a static mask:
#
#     import lm_eval
#     from masked_lm import MaskedLM
#     model = MaskedLM("bin/sweep", "--model", "DIR", "--mask", "static", "--scores", "aggregates.h5",
#                      "--criterion", "plainact", "--sparsity", "30")
#     print(lm_eval.simple_evaluate(model, tasks=["mmlu"])["results"])
#
# Texts are tokenised as the harness does it with transformers, the token before a text included (--bos), and contexts
# longer than the model's positions are cut from the left. Perplexity of texts: `sweep --wikitext FILE --harness today`.
import json
import subprocess
import tempfile

try:
    from lm_eval.api.model import LM
except ImportError:  # the class works on anything with .args
    LM = object


class MaskedLM(LM):
    def __init__(self, sweep, *options):
        """sweep: path of the program. options: its --model and the one mask, as on its command line."""
        super().__init__()
        self.command = [sweep, *options, "--over-long", "cut"]

    def loglikelihood(self, requests, disable_tqdm=False):
        """[(log-likelihood, whether greedy decoding writes the continuation)] of requests whose args are (context,
        continuation), in their order."""
        if not requests:
            return []
        with tempfile.TemporaryDirectory() as folder:
            asked, found = f"{folder}/asked.jsonl", f"{folder}/found.jsonl"
            with open(asked, "w") as f:
                f.writelines(json.dumps(r.args[:2]) + "\n" for r in requests)
            done = subprocess.run([*self.command, "--requests", asked, "--out", found], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr.strip())
            with open(found) as f:
                rows = [json.loads(line) for line in f]
        assert len(rows) == len(requests), (len(rows), len(requests))
        return [(r["log_likelihood"], r["is_greedy"]) for r in rows]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError("perplexity of texts: sweep --wikitext FILE --harness today")

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError("texts are written by bin/generate")
