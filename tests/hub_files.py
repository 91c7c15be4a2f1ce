#!/usr/bin/env python3
"""hub_files.py DIR WORLD [RAW] - makes, from the task files of WORLD and the text RAW, the parquet files that the
Hugging Face hub has of them, each dataset in another of the ways in which folders of the hub come: what a download
leaves, its branch of conversions, its cache with links into blobs. DIR/hub and DIR/cache hold them; DIR/bad/NAME has
one fault each."""
import json
import os
import sys
import pyarrow as pa
import pyarrow.parquet as pq

top, world = sys.argv[1:3]


def rows_of(task, file):
    path = f"{world}/{task}/{file}.jsonl"
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    if os.path.exists(path.replace(".jsonl", "-labels.lst")):
        labels = open(path.replace(".jsonl", "-labels.lst"), encoding="utf-8").read().split()
        rows = [{**row, **({"label": int(mark)} if task == "piqa" else {"answer": mark})}
                for row, mark in zip(rows, labels)]
    if task == "openbookqa":  # the hub's form of the authors' rows
        rows = [{"id": row["id"], "question_stem": row["question"]["stem"], "answerKey": row["answerKey"],
                 "choices": {key: [choice[key] for choice in row["question"]["choices"]] for key in ("text", "label")}}
                for row in rows]
    if task == "hellaswag":
        rows = [{**row, "label": str(row["label"])} for row in rows]
    return rows


def write(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def cached(repository, file, rows):
    """A file of a snapshot, which links into blobs."""
    name = f"{top}/cache/datasets--{repository}"
    os.makedirs(f"{name}/refs", exist_ok=True)
    open(f"{name}/refs/main", "w", encoding="utf-8").write("0123abcd")
    blob = f"{name}/blobs/{file.replace('/', '-')}"
    write(blob, rows)
    link = f"{name}/snapshots/0123abcd/{file}"
    os.makedirs(os.path.dirname(link), exist_ok=True)
    os.symlink(os.path.relpath(blob, os.path.dirname(link)), link)


hub = f"{top}/hub"
for split, theirs in (("train", "train"), ("valid", "validation")):
    write(f"{hub}/piqa/piqa_{theirs}.parquet", rows_of("piqa", split))
for split, theirs in (("train", "train"), ("val", "validation")):
    write(f"{hub}/super_glue/copa/{theirs}-00000-of-00001.parquet", rows_of("copa", split))
    whole = rows_of("hellaswag", split)
    for i, part in enumerate((whole[:100], whole[100:])):
        write(f"{hub}/hellaswag/data/{theirs}-0000{i}-of-00002.parquet", part)
for split, theirs in (("train", "train"), ("dev", "validation")):
    cached("allenai--openbookqa", f"main/{theirs}-00000-of-00001.parquet", rows_of("openbookqa", split))
    write(f"{hub}/winogrande/winogrande_xl/{theirs}-00000-of-00001.parquet", rows_of("winogrande", split))
    write(f"{hub}/winogrande/winogrande_xs/{theirs}-00000-of-00001.parquet", rows_of("winogrande", split)[:40])
    write(f"{hub}/glue/rte/{theirs}/0000.parquet", rows_of("rte", split))
    write(f"{hub}/glue/mrpc/{theirs}/0000.parquet", rows_of("rte", split)[:5])  # not one of the seven
    cached("allenai--ai2_arc", f"ARC-Easy/{theirs}-00000-of-00001.parquet", rows_of("arc_easy", split))
    cached("allenai--ai2_arc", f"ARC-Challenge/{theirs}-00000-of-00001.parquet", rows_of("arc_easy", split)[:5])
write(f"{top}/unnamed/data/train-00000-of-00001.parquet", rows_of("copa", "train"))
cached("allenai--openbookqa", "additional/train-00000-of-00001.parquet", [{"question_stem": "not this one"}])
write(f"{top}/cache/datasets--allenai--ai2_arc/snapshots/stale/ARC-Easy/train-00000-of-00001.parquet", [{"old": 1}])
hidden = [{**row, "label": -1} for row in rows_of("rte", "dev")]
write(f"{hub}/glue/rte/test/0000.parquet", hidden)
if len(sys.argv) > 3:  # the hub's script keeps lines but empties those that are blank
    with open(sys.argv[3], encoding="utf-8", newline="\n") as text:
        lines = [{"text": line if line.strip() else ""} for line in text]
    cached("Salesforce--wikitext", "wikitext-2-raw-v1/validation-00000-of-00001.parquet", lines)

rte, arc = rows_of("rte", "dev"), rows_of("arc_easy", "dev")
faults = {
    "column": ("rte/train-00000-of-00001.parquet",
               [{key: row[key] for key in ("sentence1", "label", "idx")} for row in rte]),
    "schema": ("ARC-Easy/train-00000-of-00001.parquet", [{**row, "choices": row["choices"]["text"]} for row in arc]),
    "type": ("copa/train-00000-of-00001.parquet",
             [{**row, "label": float(row["label"])} for row in rows_of("copa", "val")]),
    "mixed": ("rte/train-00000-of-00001.parquet", rte[:3] + hidden[3:]),
    "null": ("rte/train-00000-of-00001.parquet", rte[:3] + [{**rte[3], "sentence2": None}]),
    "piece": ("rte/train-00000-of-00003.parquet", rte),
    "text": ("wikitext-2-raw-v1/test-00000-of-00001.parquet", [{"text": ""}, {"text": " = A page = \n"}]),
    "other": ("boolq/train-00000-of-00001.parquet", [{"question": "?", "passage": "."}]),
    "two/glue": ("rte/train-00000-of-00001.parquet", rte),
    "two/super_glue": ("rte/train-00000-of-00001.parquet", rte),
}
for name, (file, rows) in faults.items():
    write(f"{top}/bad/{name}/{file}", rows)
write(f"{top}/bad/empty/rte/train-00000-of-00001.parquet", rte)
pq.write_table(pa.Table.from_pylist(rte).slice(0, 0), f"{top}/bad/empty/rte/train-00000-of-00001.parquet")
write(f"{top}/bad/cut/rte/train-00000-of-00001.parquet", rte)
with open(f"{top}/bad/cut/rte/train-00000-of-00001.parquet", "r+b") as cut:
    cut.truncate(3000)
os.makedirs(f"{top}/bad/link/rte")
os.symlink("../nowhere", f"{top}/bad/link/rte/train-00000-of-00001.parquet")
