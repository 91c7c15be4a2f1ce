#!/usr/bin/env python3
r"""documents.py [FILE.md ...] - runs the commands of documents as they stand, in the current folder, which
tests/test_documents.sh has made: a copy of the tree in which the names that documents use lead to tiny models and little
data. Without arguments: of every document there is.

A command is a line of an indented or fenced block that begins with a program, or with `$ ` in a transcript (a line that
ends in \ is continued by the next), and whatever begins with a program in `inline code`. EXCEPTIONS lists those that are not
run, each with its reason and what is done instead. A block that is neither commands nor listed in TEXTS fails, so that no
command is passed over.
"""
import glob
import os
import re
import shlex
import subprocess
import sys

# What is done instead of running a command. "make -n": its target is there, and of the program lines that make prints the
# options are checked, and with --estimate their values too; "names": programs and options are there; any other text: this
# command is run.
EXCEPTIONS = [
    (r"make demo", "make -o all run-demo && mkdir -p results/full && cd results/full && cp ../demo/aggregates.h5 . && "
     "cp aggregates.h5 points.h5", "installs packages; run-demo is the rest of it; its aggregates are what the sweeps of "
     "sweep-full and contextual-full are estimated with"),
    (r"make|make (SAN=1 )?(test|check)", "make -n", "builds and runs this very test"),
    (r"make (sweep-full|contextual-full|contextual-ranks|remake)", "make -n", "minutes to hours"),
    (r"make (bench-sweep|batch|bits)", "make -n", "minutes"),
    (r"make (paper( SIZE=full)?|latency)", "make -n", "minutes to hours; test_paper runs paper.sh"),
    (r"make smollm2 DATA=DIR( SIZE=medium)?", "make -n", "needs the network; hours; test_smollm2 runs smollm2.sh"),
    (r"experiments/paper\.sh --model DIR .*", "sh -n experiments/paper.sh", "minutes; test_paper runs it"),
    (r"make (bench|bench-train|bench-decode|oracle)( PYTHON=\S+)?", "make -n", "needs a Python with PyTorch; minutes"),
    (r"make (tables|tables-check)", "make -n", "needs the CSV files of results/, which are not in the copy; "
     "test_tables checks them"),
    (r"make (dense|fuzz( RUNS=\d+)?)", "make -n", "minutes; fuzz needs clang"),
    (r"make (cuda-report|ptxrun( PTXRUN=\S+)?)", "make -n", "needs nvcc"),
    (r"bin/world --check build/remake/world --model build/remake/model", "names", "what make remake leaves, an hour"),
    (r"data/download\.sh DIR", "sh -n data/download.sh", "needs the network"),
    (r"(PATH=\S+ )?data/from_hub\.py DIR( \w+)?", "names", "needs pyarrow; test_from_hub runs it"),
    (r"python3 -m venv venv", "names", "seconds"),
    (r"venv/bin/pip install pyarrow", "names", "needs the network"),
    (r"(KIT_CUDA=\S+ )?compute-sanitizer .*", "names", "needs a GPU"),
    (r"(mpirun|srun)\b.*", "names", "how processes are started, not a whole command"),
    (r"TEXT=\.\.\. LIMIT=6 experiments/contextual\.sh small", "names", "not a whole command"),
    (r"(bin|experiments|tests)/[\w.]+", "names", "not a whole command"),
    (r"bin/report --in results/paper .*", "names", "needs what make paper writes"),
    (r"bin/(aggregate --csv DIR|train --metrics)", "names", "not a whole command"),
    (r"bin/sweep --model SOURCE --mask file:DIR/mask\.h5", "names", "not a whole command"),
    (r"pip install .*", "names", "needs the network"),
]
# Blocks that hold no command: their first line, and what they are.
TEXTS = [(r"DIR/piqa/train\.jsonl ", "a list of files"),
         (r"for f in DATA/", "a loop; test_documents.sh has FIRST as it would be"),
         (r"// crit_", "C; test_new_criterion runs it"), (r"import h5py, pandas", "Python; test_score runs it")]

PROGRAM = r"(?:bin/\w+|(?:experiments|data|tests)/\w+\.(?:sh|py))(?=[\s;)]|$)"
COMMAND = re.compile(rf"(\w+=\S+ )*({PROGRAM}|(make|python3|gnuplot|mpirun|srun|compute-sanitizer|pip)(?=\s|$))")
STANDS_FOR = {"PYTHON=...": "PYTHON=python3", "PTXRUN=...": "PTXRUN=ptxrun", "PLOT_IN=DIR": "PLOT_IN=results/demo"}
TINY_SHAPE = "--shape 2x2x16x32x61x512 --prompt 4 --tokens 2 --rounds 1 --peer none"


def blocks(text):
    """Indented and fenced blocks, each as its lines."""
    found, lines, fence = [], [], False
    for line in text.split("\n") + [""]:
        if line.startswith("```"):
            fence = not fence
        elif fence or line.startswith("    "):
            lines.append(line if fence else line[4:])
            continue
        if lines:
            found.append(lines)
            lines = []
    return found


def commands(text):
    """The commands of a document, in its order; and the blocks that are none."""
    found, unknown = [], []
    for lines in blocks(text):
        joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).split("\n")
        transcript = [line[2:] for line in joined if line.startswith("$ ")]
        own = transcript or [line for line in joined if line.strip()]
        if not transcript and not all(COMMAND.match(line) for line in own):
            if not any(re.match(first, own[0]) for first, _ in TEXTS):
                unknown.append(own[0])
            continue
        found += own
    prose = re.sub(r"^```.*?^```|^    .*?$", "", text, flags=re.S | re.M)
    found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose) if COMMAND.match(code)]
    return [part.strip() for line in found for part in re.sub(r"\s+# .*", "", line).split(" && ")], unknown


def run(command):
    """None, or why it failed."""
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    return f"exit {done.returncode}: " + " | ".join(done.stdout.strip().split("\n")[-3:]) if done.returncode else None


def options(program, known={}):
    """The options that a program's --help lists."""
    if program not in known:
        text = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
        known[program] = set(re.findall(r"^  (--[\w-]+)", text, re.M))
    return known[program]


def names(command):
    """None, or the program or option in a line of shell that is not there."""
    program = None
    for word in re.findall(rf"(?:^|(?<=[\s\"';(=]))(?:make\b|{PROGRAM}|--[a-z][a-z-]*)", command):
        if not word.startswith("--"):
            program = word
            if word != "make" and not os.access(word, os.X_OK):
                return f"{word} is not there"
        elif program and program.startswith("bin/") and word not in options(program) | {"--help"}:
            return f"{program} has no option {word}"
    return None


def estimated(line):
    """A program line of make with tiny values, or with --estimate where the program has it and its inputs are there; None:
    it cannot be run."""
    line = re.sub(r"\s[>|].*", "", line)
    program = line.split()[0]
    if program == "bin/bench" and "--shape" in line:
        return re.sub(r"--(shape|tokens|prompt|rounds|peer) \S+", "", line) + " " + TINY_SHAPE
    if program not in ("bin/score", "bin/train", "bin/sweep"):
        return None
    word = shlex.split(line)
    inputs = [value for option, value in zip(word, word[1:])
              if option in ("--scores", "--store", "--predictor", "--calibrate")]
    return line + " --estimate" if all(os.path.exists(path) for path in inputs) else None


def dry(command):
    """make -n, and what it prints."""
    command = command.replace("make", "make -n -o all -o install", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if done.returncode:
        return f"make -n: {done.stderr.strip()}"
    for line in re.sub(r"\s*\\\n\s*", " ", done.stdout).split("\n"):
        fault = names(line)
        ready = None
        if line.startswith("mkdir -p "):
            ready = line
        elif line.startswith("bin/"):
            ready = estimated(line)
        fault = fault or (ready and run(ready))
        if fault:
            return f"{line}: {fault}"
    return None


def check(command):
    for pattern, instead, _ in EXCEPTIONS:
        if re.fullmatch(pattern, command):
            for written, meant in STANDS_FOR.items():
                command = command.replace(written, meant)
            if instead == "make -n":
                return dry(command)
            return names(command) if instead == "names" else run(instead)
    for written, meant in STANDS_FOR.items():
        command = command.replace(written, meant)
    return names(command) or run(command)


def main():
    bad = 0
    done = set()
    documents = sys.argv[1:] or ["README.md"] + sorted(set(glob.glob("**/*.md", recursive=True)) - {"README.md"})
    for document in documents:
        found, unknown = commands(open(document, encoding="utf-8").read())
        for line in unknown:
            bad += 1
            print(f"FAIL: {document}: a block that is neither commands nor listed in TEXTS: {line}")
        for command in found:
            if command in done:
                continue
            done.add(command)
            fault = check(command)
            bad += fault is not None
            print(f"FAIL: {document}: {command}: {fault}" if fault else f"{document}: {command}", flush=True)
    print(f"{len(done)} commands of {len(documents)} documents, {bad} failed")
    return bad > 0 or not done


if __name__ == "__main__":
    sys.exit(main())
