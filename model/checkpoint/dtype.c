// dtype - names and sizes of the types of numbers. Contract in ckpt.h.
#include <string.h>
#include "ckpt.h"

static const char *const names[DTYPES] = {"float32", "float16", "bfloat16", "Q8_0", "Q4_0", "Q4_1", "Q4_K"};

const char *dtype_name(dtype t) {
    ASSERT(t < DTYPES);
    return names[t];
}

const char *const dtype_options[] = {[DT_F32] = "fp32", [DT_F16] = "fp16", [DT_BF16] = "bf16", NULL};
const char *const activation_options[] = {"fp32", "fp16", "bf16", [DT_Q8_0] = "q8_0", NULL};
const char *const weight_options[] = {"fp32", "fp16", "bf16", [DT_Q8_0] = "q8_0", [DT_Q4_0] = "q4_0", NULL};

int dtype_of_option(const char *name) {
    for (int t = 0; dtype_options[t]; t++)
        if (strcmp(dtype_options[t], name) == 0) return t;
    return -1;
}

size_t dtype_block(dtype t) {
    if (!dtype_in_blocks(t)) return 1;
    return t == DT_Q4_K ? 256 : 32;
}

size_t dtype_size(dtype t, size_t n) {
    static const size_t bytes[DTYPES] = {4, 2, 2, 34, 18, 20, 144};  // of a block
    const size_t block = dtype_block(t);
    ASSERT(n % block == 0);
    return n / block * bytes[t];
}
