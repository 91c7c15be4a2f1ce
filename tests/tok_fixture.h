// tok_fixture - what the tests of the tokenizer share: ids of a text, the way back, a folder for vocabularies.
#pragma once
#include "refusal.h"
#include "tok.h"
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN "tests/golden/tok"

typedef struct {
    int32_t *id;
    int n, cap;
} ids;

static inline ids encode(const tok *t, const char *text, size_t bytes) {
    ids x = {0};
    assert_int_equal(tok_encode(t, text, bytes, &x.id, &x.n, &x.cap), 0);
    return x;
}

// The bytes of all ids, one after the other, are the text.
static inline void check_identity(const tok *t, const char *text, size_t bytes) {
    ids x = encode(t, text, bytes);
    size_t at = 0, n;
    for (int i = 0; i < x.n; i++) {
        const char *b = tok_bytes(t, x.id[i], &n);
        if (at + n > bytes || memcmp(text + at, b, n) != 0)
            fail_msg("id %d of %d does not spell what stands at byte %zu", i, x.n, at);
        at += n;
    }
    assert_int_equal(at, bytes);
    char *back = tok_decode(t, x.id, x.n);
    assert_memory_equal(back, text, bytes);
    assert_int_equal(back[bytes], 0);
    free(back);
    free(x.id);
}

static inline tok *open_or_fail(const char *dir) {
    tok *t = tok_open(dir, 0);
    if (!t) fail_msg("%s", err_get());
    return t;
}

static char *scratch_dir(char path[32]) {
    snprintf(path, 32, "/tmp/test_tok.XXXXXX");
    char *made = mkdtemp(path);
    assert_non_null(made);
    return made;
}

static inline void scratch_remove(const char *dir) {
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        char *p = xasprintf("%s/%s", dir, names[i]);
        unlink(p);
        free(p);
    }
    assert_int_equal(rmdir(dir), 0);  // nothing else was left there
}
