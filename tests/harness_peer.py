# harness_peer.py MODEL DATA OUT - lm-evaluation-harness (0.4.13) on local files: the seven tasks of DATA (one file each,
# in this project's layout) and the pages of DATA/text.raw, on the first documents. One JSON line per document: task,
# place, log-likelihoods, whether the prediction and the one per character are right; of a page: words, bytes.
import json, re, sys, tempfile
from pathlib import Path
import lm_eval
from lm_eval.tasks import TaskManager

model, data, out = sys.argv[1:4]
options = sys.argv[4] if len(sys.argv) > 4 else ""
yaml = {"piqa": "piqa/piqa", "copa": "super_glue/copa/default", "openbookqa": "openbookqa/openbookqa",
        "winogrande": "winogrande/default", "rte": "glue/rte/default", "hellaswag": "hellaswag/hellaswag",
        "arc_easy": "arc/arc_easy", "wikitext": "wikitext/wikitext"}
home, tmp = Path(lm_eval.__file__).parent / "tasks", Path(tempfile.mkdtemp())


def rows_of(task):
    """The rows as the hub has them."""
    if task == "wikitext":
        return [{"page": p} for p in pages(open(f"{data}/text.raw").read())]
    file = next(f for f in sorted(Path(data, task).iterdir()) if f.suffix == ".jsonl")
    rows = [json.loads(line) for line in open(file)]
    for r in rows:
        if task == "openbookqa":
            q = r.pop("question")
            r["question_stem"] = q["stem"]
            r["choices"] = {k: [c[k] for c in q["choices"]] for k in ("text", "label")}
        if task == "hellaswag":
            r["label"] = str(r["label"])
    return rows


def pages(text):
    """Pages of WikiText as the harness of 2022 and EleutherAI/wikitext_document_level have them (METHOD 3.5)."""
    found, page = [], []
    for line in text.split("\n"):
        flat = line.replace("= = =", "===").replace("= =", "==").strip()
        if flat.startswith("= ") and flat.endswith(" ="):
            found.append("\n".join(page))
            page = []
        page.append(line)
    return [p for p in found + ["\n".join(page)] if p.strip()]


names = []
for task, file in yaml.items():
    with open(tmp / f"{task}.jsonl", "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows_of(task))
    names.append("local_" + task)
    with open(tmp / f"{task}.yaml", "w") as f:
        f.write(f"include: {home}/{file}.yaml\ntask: local_{task}\ntag: null\ndataset_path: json\ndataset_name: null\n"
                f"dataset_kwargs: {{data_files: {{validation: {tmp}/{task}.jsonl}}}}\n"
                "training_split: null\nvalidation_split: validation\ntest_split: null\n")
found = lm_eval.simple_evaluate(model="hf", model_args=f"pretrained={model},dtype=float32{options}", tasks=names,
                                batch_size=8, device="cpu", log_samples=True, bootstrap_iters=0,
                                task_manager=TaskManager(include_path=str(tmp)))
with open(out, "w") as f:
    for name, samples in found["samples"].items():
        for s in sorted(samples, key=lambda s: s["doc_id"]):
            line = dict(task=name.removeprefix("local_"), place=s["doc_id"])
            if line["task"] == "wikitext":
                ll, line["words"] = s["word_perplexity"]
                line |= dict(lls=[ll], bytes=s["byte_perplexity"][1])
            else:
                line |= dict(lls=[float(r[0][0]) for r in s["resps"]], acc=s["acc"], acc_norm=s.get("acc_norm"),
                             texts=[list(a.values()) if isinstance(a, dict) else a for a in
                                    (s["arguments"].values() if isinstance(s["arguments"], dict) else s["arguments"])])
            f.write(json.dumps(line) + "\n")
