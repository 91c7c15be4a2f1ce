// bench_bandwidth - how fast all threads together read memory: the roof of everything that reads its weights once. Contract in bench.h.
//
// Each thread adds up a stretch of its own, in the order of memory, 512 bytes a step into eight independent sums, from large pages where the system gives them. The
// sums are looked at, so that no read can be left out.
#include "bench.h"
#include "simd.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LANES = 8, SUMS = 8 };
typedef uint64_t v __attribute__((vector_size(LANES * sizeof(uint64_t))));

static const size_t BYTES = (size_t)1 << 29;

HOT static uint64_t add_up(const char *p, size_t bytes) {
    v sum[SUMS] = {0};
    const v *x = (const v *)p;
    for (size_t i = 0; i < bytes / sizeof *x; i += SUMS)
        for (int k = 0; k < SUMS; k++) sum[k] += x[i + (size_t)k];
    uint64_t all = 0;
    for (int k = 0; k < SUMS; k++)
        for (int l = 0; l < LANES; l++) all += sum[k][l];
    return all;
}

double bench_bandwidth(int passes) {
    static char *buffer;
    if (!buffer) {
        buffer = xaligned(BYTES);
#pragma omp parallel
        {
            const size_t n = (size_t)omp_get_num_threads(), share = BYTES / n / 4096 * 4096;
            memset(buffer + share * (size_t)omp_get_thread_num(), 1, share);
        }
    }
    double best = INFINITY;
    size_t read = 0;
    for (int pass = 0; pass < passes; pass++) {
        uint64_t all = 0;
        const double start = clock_s();
#pragma omp parallel reduction(+ : all)
        {
            const size_t n = (size_t)omp_get_num_threads(), share = BYTES / n / 4096 * 4096;
            all += add_up(buffer + share * (size_t)omp_get_thread_num(), share);
#pragma omp single
            read = share * n;
        }
        best = fmin(best, clock_s() - start);
        ASSERT(all != 1);  // it is known, so it was read
    }
    return (double)read / best;
}
