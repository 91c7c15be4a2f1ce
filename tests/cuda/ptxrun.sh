#!/bin/sh
# ptxrun.sh RUN DIR LIBRARY TEST... - runs tests with the kernels of LIBRARY as nvcc compiled them: RUN, a translator of PTX that is no part of this project,
# executes them on the CPU and checks every access to global memory. A copy of the translator in DIR is taught what it lacks: the address of a kernel's
# parameter, which a kernel takes that looks up its span in a list among its parameters.
set -eu
run=$1 dir=$2 library=$3
shift 3
from=$(cd "$(dirname "$run")" && pwd)
if [ -e "$from/ptx2c.py" ]; then
    mkdir -p "$dir"
    cp -r "$from" "$from/../runtime" "$from/../shim" "$dir"
    chmod -R u+w "$dir"
    run=$dir/$(basename "$from")/$(basename "$run")
    # one line before the one that gives up: a translator that knows better never comes to it
    sed -i "/^    die('%s: unknown operand %s' % (f.name, o))\$/i\\    if o in f.off: return '((uint64_t)(uintptr_t)(P + %d))' % f.off[o]" "$(dirname "$run")/ptx2c.py"
fi
KIT_CUDA=$library PTX_CHECK=1 PTXRUN_DIR=$dir/cache
export KIT_CUDA PTX_CHECK PTXRUN_DIR
for t; do "$run" env LD_PRELOAD=libcudart.so.13 "$t" || exit 1; done
