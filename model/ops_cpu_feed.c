// ops_cpu_feed - uploads where the device's memory is the host's (ops.h: feed_new): the buffers change roles, nothing is copied.
#include "ops_cpu.h"
#include <stdlib.h>

struct feed { void *slot[2]; int taken; };

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
