// blocks_fixture - random weights in blocks, for tests of their kernels.
#pragma once
#include <string.h>
#include "base.h"
#include "convert.h"
#include "gguf.h"

// Rows of blocks with random bytes (-128 of Q8_0 too) and scales of reasonable size, and
// their numbers in *wide. The caller frees both.
static inline uint8_t *random_blocks(rng *r, dtype type, size_t n, float **wide) {
    const size_t bytes = dtype_size(type, n), block = dtype_size(type, dtype_block(type));
    uint8_t *b = xmalloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++) b[i] = (uint8_t)rng_below(r, 256);
    for (size_t i = 0; i < bytes; i += block)
        for (size_t k = 0; k < 2; k++) {
            const _Float16 scale = (_Float16)(0.01 * rng_normal(r));
            if (k == 0 || type == DT_Q4_1 || type == DT_Q4_K) memcpy(b + i + 2 * k, &scale, sizeof scale);
        }
    *wide = xmalloc(n * sizeof **wide + 1);
    gguf_widen(*wide, b, gguf_type_of(type), n);
    return b;
}
