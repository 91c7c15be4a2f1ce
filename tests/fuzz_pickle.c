// fuzz_pickle - any bytes as the pickle of a whole pytorch_model.bin with one storage of 48 bytes: the machine reads
// nothing outside it.
// seeds: tests/golden/ckpt/*.pkl
#include "ckpt.h"
#include "zip_make.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char storage[48];
    archive a = zip_make((const char *[]){"a/data.pkl", "a/data/0"}, (const char *[]){(const char *)data, storage},
                         (size_t[]){size, sizeof storage}, 2, false);
    const uint8_t *first = a.bytes + a.centrals[0] - sizeof storage;
    tensor *t;
    int n;
    if (pt_parse(a.bytes, a.n, "input", &t, &n) == 0) {
        for (int i = 0; i < n; i++)
            ASSERT(t[i].made || t[i].foreign ||
                   ((const uint8_t *)t[i].data >= first &&
                    (const uint8_t *)t[i].data + tensor_bytes(&t[i]) <= first + sizeof storage));
        tensors_free(t, n);
    }
    free(a.bytes);
    return 0;
}
