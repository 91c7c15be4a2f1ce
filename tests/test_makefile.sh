#!/bin/sh
# test_makefile [MAKEFILE] - no variable of the Makefile begins or ends with a blank, where it would be part of a file's
# name; `make help` lists every variable that can be set, and every target that has a description; default folders reach
# the programs as they are.
file=${1:-Makefile} tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset MAKEFLAGS MAKEOVERRIDES TIMES PLOT_IN PLOT_OUT
make() { env make --no-print-directory -s -f "$file" CUDA=0 "$@"; }

# A line NAME[value] for each variable that the Makefile sets; multi-line ones (define) are no words of a command.
one_line='$(if $(findstring $(newline),$(value $v)),,$($v))'
values='values: ; @:$(foreach v,$(.VARIABLES),$(if $(filter file,$(origin $v)),$(info $v['$one_line'])))'
make --eval 'define newline


endef' --eval "$values" values >"$tmp/values" || exit 1
make help >"$tmp/help" || exit 1
make -n bench-decode plots PYTHON=python3 >"$tmp/commands" || exit 1

/usr/bin/python3 - "$file" "$tmp" <<'PY'
import re, sys
makefile, tmp = sys.argv[1:]
faults = []
values = dict(re.findall(r"^(\w+)\[(.*)\]$", open(tmp + "/values").read(), re.M))
assert len(values) > 30 and values["PLOT_IN"].strip() == "results/demo", values
for name, value in sorted(values.items()):
    if value != value.strip():
        faults.append(f"{name} has a blank at an end: \"{value}\"")
lines = open(makefile).read().split("\n") + open("experiments/runs.mk").read().split("\n")
listed = dict(re.findall(r"^(\S+) +(\S.*)$", open(tmp + "/help").read(), re.M))
described = {}
for above, line in zip(lines, lines[1:]):
    knob, target = re.match(r"## (\w+): (.*)", above), re.match(r"([a-z-]+):[^=].*## (.*)", line)
    if knob:
        described[knob[1]] = knob[2]
        if not re.match(knob[1] + r" *\?=", line):
            faults.append(f"what is said of {knob[1]} does not stand above its value: {line}")
    elif target:
        described[target[1]] = target[2]
for name, text in described.items():
    if listed.get(name) != text:
        faults.append(f"make help does not say of {name}: {text}")
for name in "TIMES PLOT_IN PLOT_OUT PYTHON RUNS SEED SAN check demo plots".split():
    if name not in listed:
        faults.append(f"make help does not list {name}")
commands = open(tmp + "/commands").read()
for wanted in ("--out results/bench/bench.csv\n", "\"src='results/demo'; dst='results/demo/plots'\""):
    if wanted not in commands:
        faults.append(f"no command has {wanted.strip()}")
print("\n".join("FAIL: " + f for f in faults) or "all passed")
sys.exit(bool(faults))
PY
