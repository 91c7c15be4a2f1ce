// bench_bandwidth - how fast the device reads its memory: the roof of everything that reads its weights once. Contract
// in bench.h. What is read is added up and looked at, so that no read can be left out.
#include "bench.h"
#include <stdlib.h>
#include <string.h>

static const size_t PIECE = (size_t)1 << 27;
static const int ONES = 0x01;

// Bytes of a pass, in turn over the buffer: a piece on the CPU. A GPU reads one before it has well begun, so there it
// is 1 GiB, or less where the memory that was free at first is less than 40 GiB.
static size_t pass_bytes(const ops *o) {
    static size_t bytes;
    const size_t most = (size_t)1 << 30;
    if (o->host) return PIECE;
    if (!bytes) bytes = o->room() / 40 / PIECE * PIECE;
    if (bytes < PIECE) bytes = PIECE;
    return bytes < most ? bytes : most;
}

static size_t buffer_bytes(const ops *o) { return (o->host ? 4 : 2) * pass_bytes(o); }
size_t bench_bandwidth_bytes(const ops *o) { return o->host ? 0 : (size_t)o->parts * buffer_bytes(o); }

static void *make_buffer(const ops *o) {
    const size_t page = 4096, all = buffer_bytes(o), bytes = o->host ? all : PIECE;
    char *ones = xaligned(bytes), *buffer = o->host ? ones : o->alloc(all);
#pragma omp parallel for schedule(static)  // each thread's part near to it
    for (size_t i = 0; i < bytes / page; i++) memset(ones + i * page, ONES, page);
    for (size_t at = 0; !o->host && at < all; at += PIECE) o->put(buffer + at, ones, PIECE);
    if (!o->host) free(ones);
    return buffer;
}

double bench_bandwidth(const ops *o) {
    static char *buffer[OPS_PARTS];
    static size_t at;
    const size_t pass = pass_bytes(o);
    double took = 0;
    for (int p = 0; p < o->parts; p++) {
        uint64_t sum;
        o->use(p);
        if (!buffer[p]) buffer[p] = make_buffer(o);
        took += o->read(&sum, buffer[p] + at, pass);
        ASSERT(sum == pass / sizeof sum * 0x0101010101010101u);  // it was read
    }
    o->use(0);
    at = (at + pass) % buffer_bytes(o);
    return (double)(pass * (size_t)o->parts) / took;
}
