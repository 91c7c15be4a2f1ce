// cpu_memory - operations on memory where it is the host's: blocks, copies, uploads, random weights, transposes,
// reading for its speed.
#include "convert.h"
#include "cpu.h"
#include "simd.h"
#include <omp.h>
#include <stdlib.h>

void *cpu_alloc(size_t bytes) { return xcleared(bytes); }
void cpu_release(void *p) { xcleared_free(p); }
void cpu_put(void *device, const void *host, size_t bytes) { memcpy(device, host, bytes); }
void cpu_get(void *host, const void *device, size_t bytes) { memcpy(host, device, bytes); }
void cpu_zero(void *p, size_t bytes) { memset(p, 0, bytes); }
void cpu_copy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
size_t cpu_room(void) { return SIZE_MAX; }  // of virtual memory
void cpu_reserve(size_t bytes) { (void)bytes; }
const char *cpu_use(int part) { return (void)part, "cpu"; }

// ---------------------------------------------------------------- lanes: all is done in order
void cpu_aside(int lane) { ASSERT(lane >= 0 && lane < OPS_LANES); }
void cpu_back(void) {}
long cpu_mark(void) { return 0; }
void cpu_join(long ticket) { ASSERT(ticket == 0); }

// ---------------------------------------------------------------- uploads: the buffers change roles, nothing is copied
struct feed {
    void *slot[2];
    int taken;
};

struct feed *cpu_feed_new(size_t bytes) {
    struct feed *f = xcalloc(1, sizeof *f);
    for (int k = 0; k < 2; k++) f->slot[k] = xaligned(bytes);
    return f;
}

void cpu_feed_free(struct feed *f) {
    if (!f) return;
    for (int k = 0; k < 2; k++) free(f->slot[k]);
    free(f);
}

void *cpu_feed_fill(struct feed *f) { return f->slot[f->taken ^ 1]; }
void cpu_feed_send(struct feed *f, size_t bytes) { (void)f, (void)bytes; }
void *cpu_feed_take(struct feed *f) { return f->slot[f->taken ^= 1]; }

// ---------------------------------------------------------------- downloads
struct fetch {
    fetch_places to;
};

struct fetch *cpu_fetch_new(size_t bytes) {
    struct fetch *f = xcalloc(1, sizeof *f);
    f->to = (fetch_places){.host = xaligned(bytes ? bytes : 1), .bytes = bytes};
    return f;
}

void cpu_fetch_free(struct fetch *f) {
    if (!f) return;
    free(f->to.host);
    free(f);
}

const void *cpu_fetch(struct fetch *f, const void *device, size_t bytes) {
    void *to = fetch_next(&f->to, bytes);
    return bytes ? memcpy(to, device, bytes) : to;
}

void cpu_fetch_wait(struct fetch *f) { f->to.waited = true; }

// ---------------------------------------------------------------- whole blocks
enum { PIECE = 1 << 14 };  // numbers of one stream, so that threads share a block

void cpu_random(void *to, dtype type, size_t n, double bound, uint64_t seed) {
#pragma omp parallel for schedule(static)
    for (size_t from = 0; from < n; from += PIECE) {
        const size_t m = n - from < PIECE ? n - from : PIECE;
        float w[PIECE];
        rng r = rng_make(rng_hash(seed, from, 0));
        for (size_t k = 0; k < m; k++) w[k] = (float)((rng_uniform(&r) - 0.5) * 2 * bound);
        dtype_narrow((char *)to + dtype_size(type, from), type, w, m);
    }
}

void cpu_transpose(void *to, const weight *w) {
    enum { SIDE = 32 };
    const size_t rows = (size_t)w->rows, cols = (size_t)w->cols;
#pragma omp parallel for schedule(static)
    for (size_t j0 = 0; j0 < cols; j0 += SIDE)
        for (size_t i0 = 0; i0 < rows; i0 += SIDE)
            for (size_t j = j0; j < j0 + SIDE && j < cols; j++)
                for (size_t i = i0; i < i0 + SIDE && i < rows; i++)
                    if (w->type == DT_F32)
                        ((float *)to)[j * rows + i] = ((const float *)w->data)[i * cols + j];
                    else
                        ((uint16_t *)to)[j * rows + i] = ((const uint16_t *)w->data)[i * cols + j];
}

// Each thread adds up a stretch of its own, in the order of memory, 512 bytes a step into eight independent sums.
enum { LANES = 8, SUMS = 8 };
typedef uint64_t v __attribute__((vector_size(LANES * sizeof(uint64_t))));
enum { STEP = SUMS * sizeof(v) };

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

double cpu_read(uint64_t *sum, const void *p, size_t bytes) {
    const size_t n = (size_t)omp_get_max_threads(), share = bytes / n / STEP * STEP;
    uint64_t all = 0;
    ASSERT(bytes % sizeof(uint64_t) == 0);
    const double start = clock_s();
#pragma omp parallel for schedule(static) reduction(+ : all)
    for (size_t i = 0; i < n; i++) all += add_up((const char *)p + i * share, share);
    for (size_t at = share * n; at < bytes; at += sizeof all) all += *(const uint64_t *)((const char *)p + at);
    *sum = all;
    return clock_s() - start;
}
