// fuzz_tok_json - any bytes as a tokenizer.json, and encoding of any bytes with those that are accepted. An input is
// the file, a zero, a text, of which 512 bytes are encoded: longer ones repeat what these show.
// seeds: tests/golden/fuzz/*.tok_json
#include <stdlib.h>
#include <string.h>
#include "tok_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n = zero ? (size_t)(zero - data) : size;
    tok *t = tok_parse_json((const char *)data, n, "input", 0);
    if (!t) return 0;
    // without a text of its own the file is one
    const char *text = zero ? (const char *)zero + 1 : (const char *)data;
    size_t bytes = zero ? size - n - 1 : n;
    if (bytes > 512) bytes = 512;
    int32_t *ids = NULL;
    int n_ids = 0, cap = 0;
    if (tok_encode(t, text, bytes, &ids, &n_ids, &cap) == 0) {
        for (int i = 0; i < n_ids; i++) ASSERT(ids[i] >= 0 && ids[i] < tok_size(t));
        free(tok_decode(t, ids, n_ids));
    }
    free(ids);
    tok_close(t);
    return 0;
}
