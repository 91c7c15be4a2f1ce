// cpu_blas - what the CPU's operations need of two libraries: of OpenBLAS one thread a call, and kernels for this
// processor; of OpenMP threads that give up their core while they wait. Both read environment variables before main()
// begins and never again, so the program begins once more with those variables set. A user's own settings are kept.
//
// OpenBLAS chooses its kernels by the model number of the processor. An older release does not know a newer processor
// and falls back to kernels without AVX: 0.3.21 (Debian 12) takes those of the Pentium 4 on a Sapphire Rapids, 18
// GFLOP/s a core instead of 103 (OPENBLAS_CORETYPE).
//
// A thread of GCC's OpenMP that waits for others spins, by default 300,000 times, some 15 ms, before it sleeps. Where
// other programs want the cores, it spends in that way the time that the thread it waits for needs: scoring beside ten
// other processes took twice the processor time. WAIT_SPINS last some 200 us, longer than most waits on an idle machine
// (GOMP_SPINCOUNT).
#include "cpu.h"
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cpu_blas_one_thread(void) { openblas_set_num_threads(1); }

#define WAIT_SPINS "4000"

// The name of the kernels for this processor where OpenBLAS fell back to those of another age; NULL: its choice is
// good.
static const char *better_core(void) {
#ifdef __x86_64__
    static const char *const fallback[] = {"Prescott", "Nehalem", "Sandybridge"};
    const char *core = openblas_get_corename();
    bool fell_back = false;
    for (size_t i = 0; i < sizeof fallback / sizeof *fallback; i++) fell_back |= strcmp(core, fallback[i]) == 0;
    if (!fell_back || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NULL;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return avx512 ? "SkylakeX" : "Haswell";
#else
    return NULL;
#endif
}

// How threads wait is the user's choice where one of these is set.
static const char *spins(void) { return getenv("OMP_WAIT_POLICY") ? NULL : WAIT_SPINS; }

// The variable BEGUN lists what was set for this program alone: processes that it starts do not get it.
#define BEGUN "KIT_BEGUN"

// glibc hands main's arguments to constructors. Where the program cannot begin again (no /proc), it goes slower.
__attribute__((constructor)) static void begin_again(int argc, char **argv) {
    static const struct {
        const char *name, *(*value)(void);
    } variable[] = {{"OPENBLAS_CORETYPE", better_core}, {"GOMP_SPINCOUNT", spins}};
    enum { N = sizeof variable / sizeof *variable };
    const char *begun = getenv(BEGUN);
    char program[4096], set[128] = "";
    (void)argc;
    for (int i = 0; i < N && begun; i++)
        if (strstr(begun, variable[i].name)) unsetenv(variable[i].name);
    if (begun) {
        unsetenv(BEGUN);
        return;
    }
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    for (int i = 0; i < N && n >= 0; i++) {
        const char *value = getenv(variable[i].name) ? NULL : variable[i].value();
        if (!value || setenv(variable[i].name, value, 1) != 0) continue;
        snprintf(set + strlen(set), sizeof set - strlen(set), " %s", variable[i].name);
    }
    if (!*set || setenv(BEGUN, set, 1) != 0) return;
    program[n] = 0;
    execv(program, argv);
}
