#!/bin/sh
# ptxrun.sh RUN DIR LIBRARY TEST... - runs tests with the kernels of LIBRARY as nvcc compiled them: RUN, a translator of
# PTX that is no part of this project, executes them on the CPU and checks every access to global memory. A copy of the
# translator in DIR is taught what it lacks: the address of a kernel's parameter, which a kernel takes that looks up its
# span in a list among its parameters; that the block at work is a plain variable (cu_host.h), no thread's own; launches
# with attributes; and the CUDA runtime, cuBLAS and cuRAND of this folder in the place of its own, whose factors cannot
# lie in device memory and whose random numbers have neither order nor offset. It needs zstd.h and libzstd.so where g++
# looks (CPATH, LIBRARY_PATH). DIR/TEST.log keeps a test's output.
set -eu
run=$1 dir=$2 library=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd) from=$(cd "$(dirname "$run")" && pwd)
mkdir -p "$dir"
if [ -e "$from/ptx2c.py" ]; then
    rm -rf "$dir/ptxrun" "$dir/runtime" "$dir/shim"
    cp -r "$from" "$dir/ptxrun"
    chmod -R u+w "$dir/ptxrun"
    ln -s "$here" "$dir/runtime"
    ln -s "$here" "$dir/shim"
    run=$dir/ptxrun/$(basename "$run")
    sed -i 's|\.\./runtime/cpu_cudart\.cpp|../runtime/cpu_cudart_*.cpp|' "$dir/ptxrun/build.sh"
    # one line before the one that gives up: a translator that knows better never comes to it
    sed -i "/^    die('%s: unknown operand %s' % (f.name, o))\$/i\\    if o in f.off: return '((uint64_t)(uintptr_t)(P + %d))' % f.off[o]" "$dir/ptxrun/ptx2c.py"
    sed -i 's/^extern __thread /extern /' "$dir/ptxrun/cu_rt.h"
    cat >>"$dir/ptxrun/fake_rt.cpp" <<'END'
extern "C" cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **args) {
    return cudaLaunchKernel(f, c->gridDim, c->blockDim, args, c->dynamicSmemBytes, c->stream);
}
END
fi
KIT_CUDA=$library PTX_CHECK=1 PTXRUN_DIR=$dir/cache
export KIT_CUDA PTX_CHECK PTXRUN_DIR
for t; do
    name=$(basename "$t") start=$(date +%s) said=PASS
    "$run" env LD_PRELOAD=libcudart.so.13 "$t" >"$dir/$name.log" 2>&1 || case $? in 77) said=SKIP ;; *) said=FAIL ;; esac
    printf '%s %-40s %4d s\n' $said "$name" $(($(date +%s) - start))
    case $said in SKIP) tail -n 1 "$dir/$name.log" ;; FAIL) tail -n 25 "$dir/$name.log"; exit 1 ;; esac
done
