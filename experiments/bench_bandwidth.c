// bench_bandwidth - how fast all threads together read memory: the roof of everything that reads its weights once. Contract in bench.h.
//
// Each thread adds up a stretch of its own, in the order of memory, 512 bytes a step into eight independent sums, from large pages where the system
// gives them. The sums are looked at, so that no read can be left out.
#include "bench.h"
#include "simd.h"
#include <omp.h>
#include <string.h>
#include <sys/mman.h>

enum { LANES = 8, SUMS = 8 };
typedef uint64_t v __attribute__((vector_size(LANES * sizeof(uint64_t))));

static const size_t BYTES = (size_t)1 << 29, PASS = (size_t)1 << 27;  // of the buffer, which no cache holds; of a pass, in turn over the buffer

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

double bench_bandwidth(void) {
    static char *buffer;
    static size_t at;
    const size_t n = (size_t)omp_get_max_threads(), share = PASS / n / 4096 * 4096;
    if (!buffer) {
        buffer = xaligned(BYTES);
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < BYTES / 4096; i++) memset(buffer + i * 4096, 1, 4096);
    }
    uint64_t all = 0;
    const double start = clock_s();
#pragma omp parallel for schedule(static) reduction(+ : all)
    for (size_t i = 0; i < n; i++) all += add_up(buffer + at + i * share, share);
    const double took = clock_s() - start;
    ASSERT(all == share / 8 * n * 0x0101010101010101u);  // it was read
    at = (at + PASS) % BYTES;
    return (double)(share * n) / took;
}
