// fuzz_gguf - any bytes as a GGUF file: configuration and tensors, whose data lie within the input unless they are
// copies, and the tokenizer, which encodes the last bytes of the input.
// seeds: tests/golden/fuzz/*.gguf
#include "gguf.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    model_config c = {0};
    tensor *t;
    gguf g;
    int n;
    if (gguf_load(data, size, "input", &c, &t, &n) == 0) {
        for (int i = 0; i < n; i++) {
            hash64(t[i].data, tensor_bytes(&t[i]));  // reads every byte: the sanitizer sees those outside
            ASSERT(t[i].made || ((const uint8_t *)t[i].data >= data &&
                                 (const uint8_t *)t[i].data + tensor_bytes(&t[i]) <= data + size));
        }
        tensors_free(t, n);
        model_config_free(&c);
    }
    if (gguf_parse(&g, data, size, "input")) return 0;
    tok *k = gguf_tok(&g, 0);
    const size_t bytes = size < 64 ? size : 64;
    int32_t *ids = NULL;
    int n_ids = 0, cap = 0;
    if (k) ASSERT(tok_encode(k, (const char *)data + size - bytes, bytes, &ids, &n_ids, &cap) == 0);
    free(ids);
    tok_close(k);
    gguf_free(&g);
    return 0;
}
