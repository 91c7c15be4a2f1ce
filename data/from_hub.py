#!/usr/bin/env python3
"""from_hub.py DIR [OUT] - from the parquet files of the Hugging Face hub to task files for --data OUT.

DIR: a folder of them: what `hf download NAME --repo-type dataset --local-dir DIR/...` leaves, one dataset of the hub's
cache (datasets--ORGANISATION--NAME, or a snapshot in it), the cache itself, or any folder with folders of these names.
Files without such a name count where their columns are those of piqa, copa, openbookqa, winogrande or hellaswag.
OUT: where piqa/train.jsonl and so on are written; DIR itself if it is left out.

Read are piqa, copa, openbookqa (main), winogrande (the largest size that is there), rte (GLUE's or SuperGLUE's),
hellaswag, ARC-Easy and wikitext-2-raw-v1; other files are left alone. Every file is checked before anything is written:
its columns, their types, that labels are in all rows or in none, that no piece of it is missing. Needs pyarrow.
"""
import hashlib
import json
import os
import re
import sys

# Columns of each task as the hub has them, and what they hold; those with ? may be missing.
COLUMNS = {
    "piqa": {"goal": "text", "sol1": "text", "sol2": "text", "label": "label"},
    "copa": {"premise": "text", "choice1": "text", "choice2": "text", "question": "text", "idx?": "label",
             "label": "label"},
    "openbookqa": {"id?": "label", "question_stem": "text", "choices": "choices", "answerKey": "label"},
    "winogrande": {"qID?": "label", "sentence": "text", "option1": "text", "option2": "text", "answer": "label"},
    "rte": {"sentence1": "text", "sentence2": "text", "idx?": "label", "label": "label"},
    "super_rte": {"premise": "text", "hypothesis": "text", "idx?": "label", "label": "label"},
    "hellaswag": {"ind?": "label", "activity_label": "text", "ctx_a": "text", "ctx_b": "text", "endings": "texts",
                  "label": "label"},
    "arc_easy": {"id?": "label", "question": "text", "choices": "choices", "answerKey": "label"},
    "wikitext2": {"text": "text"},
}
GOLD = ("label", "answer", "answerKey")
SIZES = ["xl", "debiased", "l", "m", "s", "xs"]  # of WinoGrande
NAMES = {name: name for name in COLUMNS if name not in ("super_rte", "wikitext2")}
NAMES["wikitext_2_raw_v1"] = "wikitext2"
NAMES.update({f"winogrande_{size}": "winogrande" for size in SIZES})
SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
RAW = {"train": "wiki.train.raw", "val": "wiki.valid.raw", "test": "wiki.test.raw"}
SHA256 = {  # of the authors' files
    "val": "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7",
    "test": "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
}


class Bad(Exception):
    """One line: what is wrong, where, and what to do."""


# ---------------------------------------------------------------- finding files
def snapshot_of(repository):
    """The snapshot of a dataset of the cache that refs/main names, else the only one."""
    there = sorted(os.listdir(os.path.join(repository, "snapshots")))
    main = os.path.join(repository, "refs", "main")
    if os.path.isfile(main):
        there = [open(main, encoding="utf-8").read().strip()]
    if len(there) != 1:
        raise Bad(f"{repository}/snapshots: holds {len(there)} snapshots and no refs/main says which; name one of them")
    return there[0]


def repository_name(snapshots):
    return os.path.basename(os.path.dirname(os.path.abspath(snapshots)))


def parquet_files(top):
    """Every parquet file below a folder; of a dataset of the hub's cache those of one snapshot."""
    found = []
    for folder, inner, files in os.walk(top):
        name = os.path.basename(os.path.abspath(folder))
        if name.startswith("datasets--") and "snapshots" in inner:
            inner[:] = ["snapshots"]
        elif name == "snapshots" and repository_name(folder).startswith("datasets--"):
            inner[:] = [snapshot_of(os.path.dirname(os.path.abspath(folder)))]
        inner[:] = sorted(part for part in inner if not part.startswith((".", "models--")))
        found += [os.path.join(folder, file) for file in sorted(files) if file.endswith(".parquet")]
    return found


def names_of(path, top):
    """What may name a file's task: itself without its split, and its folders, the nearest first."""
    folders = os.path.abspath(os.path.dirname(path)).split(os.sep)
    above = os.path.abspath(top).split(os.sep)[:-1]
    kept = [part for part in above if part.startswith("datasets--")] + folders[len(above):]
    stem = re.sub(rf"[-_.]?({'|'.join(SPLITS)})([-_.].*)?$", "", os.path.basename(path)[:-len(".parquet")])
    return [part.split("--")[-1].lower().replace("-", "_") for part in [stem] + kept[::-1]]


def split_of(path):
    name, folder = os.path.basename(path), os.path.basename(os.path.dirname(path))
    hit = re.search(rf"(?:^|[-_.])({'|'.join(SPLITS)})(?=[-_.])", name)
    return SPLITS.get(hit.group(1) if hit else folder)


def by_columns(path):
    """The task whose columns a file of no known name has, where no other dataset has them; None: it cannot be told."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    try:
        there = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return None
    for task in ("piqa", "copa", "openbookqa", "winogrande", "hellaswag"):
        if {name for name in COLUMNS[task] if not name.endswith("?")} <= there:
            return task
    return None


def size_of(near):
    """A rank: the larger sizes of WinoGrande first."""
    return SIZES.index(near.split("_")[1]) if near.startswith("winogrande_") else -1


def find(top):
    """{task: {split: [files]}}."""
    found = {}  # task -> (name, folder that one dataset or configuration fills) -> split -> files
    for path in parquet_files(top):
        names, split, folder = names_of(path, top), split_of(path), os.path.dirname(path)
        near = next((name for name in names if name in NAMES), None) or by_columns(path)
        if near is None or split is None or (near == "openbookqa" and "additional" in names):
            continue
        if os.path.basename(folder) in SPLITS:
            folder = os.path.dirname(folder)
        found.setdefault(NAMES[near], {}).setdefault((near, folder), {}).setdefault(split, []).append(path)
    for task, sources in found.items():
        largest = min(size_of(near) for near, _ in sources)
        kept = [source for source in sources if size_of(source[0]) == largest]
        if len(kept) > 1:
            raise Bad(f"{task}: is in {' and in '.join(sorted(folder for _, folder in kept))}; give the folder of one")
        found[task] = sources[kept[0]]
    return found


def check_pieces(files):
    """That NAME-00000-of-0000N.parquet are all there."""
    piece = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
    numbers = [piece.search(path) for path in files]
    if not any(numbers):
        if len(files) > 1 and not all(re.fullmatch(r"\d+\.parquet", os.path.basename(path)) for path in files):
            raise Bad(f"{files[0]} and {files[1]}: two files of one split; give the folder of one")
        return
    have = sorted(int(hit.group(1)) for hit in numbers if hit)
    if not all(numbers) or {int(hit.group(2)) for hit in numbers} != {len(have)} or have != list(range(len(have))):
        wanted = next(int(hit.group(2)) for hit in numbers if hit)
        raise Bad(f"{files[0]}: this split has {wanted} pieces, but {len(files)} files are there; fetch it again")


# ---------------------------------------------------------------- reading rows
def holds(kind, pa, have):
    """Whether a column of this type of Arrow can be what is wanted."""
    types = pa.types
    if types.is_dictionary(have):
        have = have.value_type
    text = types.is_string(have) or types.is_large_string(have)
    some = types.is_list(have) or types.is_large_list(have)
    if kind == "text":
        return text
    if kind == "label":
        return text or types.is_integer(have)
    if kind == "texts":
        return some and holds("text", pa, have.value_type)
    # choices: a list of {text, label}, or {[], []}
    inner, want = (have.value_type, "text") if some else (have, "texts")
    if not types.is_struct(inner):
        return False
    fields = {field.name: field.type for field in inner}
    return all(name in fields and holds(want, pa, fields[name]) for name in ("text", "label"))


def check_columns(path, task, schema, pa):
    """The columns to read; super_rte's where the file is SuperGLUE's RTE."""
    there = {field.name: field.type for field in schema}
    columns = COLUMNS["super_rte" if task == "rte" and "premise" in there else task]
    for name, kind in columns.items():
        if name.endswith("?"):
            continue
        if name not in there:
            raise Bad(f"{path}: has no column {name}, as {task} has; its columns are {', '.join(there)}")
        if not holds(kind, pa, there[name]):
            wanted = {"text": "text", "label": "a whole number or text", "texts": "a list of texts",
                      "choices": "{text: [], label: []}"}[kind]
            raise Bad(f"{path}: column {name} is {there[name]}, want {wanted}; another schema than {task}'s")
    return [name.rstrip("?") for name in columns if name.rstrip("?") in there]


def read(path, task):
    """Rows of a file as dictionaries."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    if not os.path.exists(path):
        raise Bad(f"{path}: is a link to nowhere; the download is not complete, fetch it again")
    try:
        with pq.ParquetFile(path) as file:
            columns = check_columns(path, task, file.schema_arrow, pa)
            rows = file.read(columns=columns).to_pylist()
    except (pa.ArrowException, OSError) as why:
        raise Bad(f"{path}: cannot be read as parquet ({str(why).splitlines()[0]}); fetch it again") from why
    for number, row in enumerate(rows):
        for name in columns:
            if row[name] is None and name not in GOLD:
                raise Bad(f"{path}: row {number}: {name} is missing")
            if isinstance(row[name], list) and name == "choices":
                row[name] = {key: [one[key] for one in row[name]] for key in ("text", "label")}
    return rows


def is_hidden(row):
    return next(row[name] for name in GOLD if name in row) in (None, "", -1, "-1")


def split_text(task, files):
    """The bytes of a split's file, and what to say of them."""
    check_pieces(files)
    rows = [row for path in files for row in read(path, task)]
    if not rows:
        raise Bad(f"{files[0]}: holds no rows")
    if task == "wikitext2":
        # the hub empties lines that are blank; the authors' have a space
        return "".join(row["text"] or " \n" for row in rows).encode(), f"{len(rows)} lines"
    hidden = [is_hidden(row) for row in rows]
    if any(hidden) and not all(hidden):
        how = "has a label" if hidden[0] else "hides its label"
        raise Bad(f"{files[0]}: row {hidden.index(not hidden[0])} {how}, unlike the rows before it")
    said = "labels are hidden (-1 or empty): can be listed, not scored" if hidden[0] else "labelled"
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(), f"{len(rows)} rows, {said}"


# ---------------------------------------------------------------- writing
def check_room(folder, split, name):
    """That no other file of this split would be read beside ours."""
    for there in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        start = re.match(r"train|val|dev|test", there)
        rows = re.search(r"\.(jsonl?|tsv|lst)(\.gz)?$", there)
        if there != name and rows and start and SPLITS[start.group()] == split:
            raise Bad(f"{folder}/{there}: would be read beside {name}; remove it, or give another OUT")


def plan(top, out):
    """[(path, bytes, what to say)] of everything that is to be written."""
    files = []
    for task, splits in sorted(find(top).items()):
        folder = os.path.join(out, task)
        for split, pieces in sorted(splits.items()):
            name = RAW[split] if task == "wikitext2" else f"{split}.jsonl"
            if task != "wikitext2":
                check_room(folder, split, name)
            data, said = split_text(task, pieces)
            if task == "wikitext2" and split in SHA256:
                if hashlib.sha256(data).hexdigest() != SHA256[split]:
                    raise Bad(f"{pieces[0]}: is not WikiText-2's: its lines do not make the authors' {name} (SHA-256)")
                said += ", the authors' file by its SHA-256"
            files.append((os.path.join(folder, name), data, said))
    if not files:
        raise Bad(f"{top}: no parquet file of a known dataset; its folders name the dataset or configuration, such as "
                  "piqa, copa, openbookqa/main, winogrande_xl, rte, hellaswag, ARC-Easy, wikitext-2-raw-v1")
    return files


def main():
    if len(sys.argv) == 2 and sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0
    if len(sys.argv) not in (2, 3) or any(word.startswith("-") for word in sys.argv[1:]):
        print("usage: data/from_hub.py DIR [OUT]; --help says more", file=sys.stderr)
        return 2
    top, out = sys.argv[1], sys.argv[-1]
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        print("from_hub.py: needs pyarrow, which this Python does not have: python3 -m venv venv && "
              f"venv/bin/pip install pyarrow && venv/bin/python {' '.join(sys.argv)}", file=sys.stderr)
        return 1
    try:
        if not os.path.isdir(top):
            raise Bad(f"{top}: no such folder")
        if top == out and "datasets--" in " ".join([os.path.abspath(top)] + os.listdir(top)):
            raise Bad(f"{top}: is the hub's cache, where nothing should be written; give OUT, too")
        for path, data, said in plan(top, out):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path + ".tmp", "wb") as file:
                file.write(data)
            os.replace(path + ".tmp", path)
            print(f"{path}: {said}")
    except (Bad, OSError) as why:
        print(f"from_hub.py: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
