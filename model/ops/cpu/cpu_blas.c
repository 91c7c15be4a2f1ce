// cpu_blas - what the matrix products of the CPU need of OpenBLAS: one thread a call, and kernels for this processor.
//
// OpenBLAS chooses its kernels by the model number of the processor before main() begins. An older release does not
// know a newer processor and falls back to kernels without AVX: 0.3.21 (Debian 12) takes those of the Pentium 4 on a
// Sapphire Rapids, 18 GFLOP/s a core instead of 103. The choice can be made only by the environment (OPENBLAS_CORETYPE)
// and only before the library starts, so the program begins once more with that variable set. A user's own setting is
// kept.
#include "cpu.h"
#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cpu_blas_one_thread(void) { openblas_set_num_threads(1); }

#ifdef __x86_64__
// The name of the kernels for this processor where OpenBLAS fell back to those of another age; NULL: its choice is
// good.
static const char *better_core(void) {
    static const char *const fallback[] = {"Prescott", "Nehalem", "Sandybridge"};
    const char *core = openblas_get_corename();
    bool fell_back = false;
    for (size_t i = 0; i < sizeof fallback / sizeof *fallback; i++) fell_back |= strcmp(core, fallback[i]) == 0;
    if (!fell_back || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NULL;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return avx512 ? "SkylakeX" : "Haswell";
}

// glibc hands main's arguments to constructors. Where the program cannot begin again (no /proc), it goes slower.
__attribute__((constructor)) static void begin_with_better_core(int argc, char **argv) {
    (void)argc;
    char program[4096];
    const char *core = getenv("OPENBLAS_CORETYPE") ? NULL : better_core();
    const ssize_t n = core ? readlink("/proc/self/exe", program, sizeof program - 1) : -1;
    if (n < 0 || setenv("OPENBLAS_CORETYPE", core, 1) != 0) return;
    program[n] = 0;
    execv(program, argv);
}
#endif
