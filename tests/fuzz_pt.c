// fuzz_pt - any bytes as a pytorch_model.bin: parsed tensors lie within the input.
// seeds: tests/golden/ckpt/*.bin tests/golden/ckpt/*/*.bin
#include "ckpt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tensor *t;
    int n;
    if (pt_parse(data, size, "input", &t, &n)) return 0;
    for (int i = 0; i < n; i++) {
        if (t[i].foreign || t[i].made) continue;
        hash64(t[i].data, tensor_bytes(&t[i]));  // reads every byte: the sanitizer sees those outside the input
        ASSERT((const uint8_t *)t[i].data >= data && (const uint8_t *)t[i].data + tensor_bytes(&t[i]) <= data + size);
    }
    tensors_free(t, n);
    return 0;
}
