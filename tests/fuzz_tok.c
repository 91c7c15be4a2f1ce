// fuzz_tok - the readers of vocab.json and merges.txt on any bytes, and encoding of any bytes with any vocabulary that
// they accept: the ids' bytes, one after the other, must be the text. An input is one of
//     {... \0 merges \0 text      both files
//     #... \0 text                merges.txt, to the vocabulary of the golden files
//     n, 2n bytes, text           n merges of earlier symbols, so that merging is reached often
// seeds: tests/golden/fuzz_tok/*
#include <stdlib.h>
#include <string.h>
#include "split.h"
#include "tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const char *at;
    size_t bytes;
} part;

// Cuts off what stands before the next zero byte.
static part cut(part *rest) {
    const char *zero = rest->bytes ? memchr(rest->at, 0, rest->bytes) : NULL;
    part head = {rest->at, zero ? (size_t)(zero - rest->at) : rest->bytes};
    size_t used = head.bytes + (zero ? 1 : 0);
    *rest = (part){rest->at + used, rest->bytes - used};
    return head;
}

static void check(const tok *t, part text) {
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    ASSERT(tok_encode(t, text.at, text.bytes, &ids, &n, &cap) == 0);
    size_t at = 0, len;
    for (int i = 0; i < n; i++, at += len) {
        const char *b = tok_bytes(t, ids[i], &len);
        ASSERT(at + len <= text.bytes && memcmp(text.at + at, b, len) == 0);
    }
    ASSERT(at == text.bytes);
    free(tok_decode(t, ids, n));
    free(ids);
}

// The 256 bytes and, for each pair of numbers, one symbol joined from two earlier ones; ids are dense.
static tok *made(const uint8_t *pairs, int n) {
    char *symbols[256 + 64], *vocab, *merges;
    size_t n_vocab, n_merges;
    int known = 0;
    FILE *v = open_memstream(&vocab, &n_vocab), *m = open_memstream(&merges, &n_merges);
    for (; known < 256; known++) {
        symbols[known] = xcalloc(1, 4);
        symbols_write(symbols[known], (char[]){(char)known}, 1);
        fprintf(v, "%s\"%s%s\": %d", known ? ", " : "{", strchr("\"\\", *symbols[known]) ? "\\" : "", symbols[known],
                known);
    }
    for (int i = 0; i < n; i++) {
        const char *a = symbols[pairs[2 * i] % known], *b = symbols[known - 1 - pairs[2 * i + 1] % known];
        char *joined = xasprintf("%s%s", a, b);
        bool again = strlen(joined) > 60 || strpbrk(joined, "\"\\");
        for (int k = 0; k < known && !again; k++) again = strcmp(symbols[k], joined) == 0;
        if (again) {
            free(joined);
            continue;
        }
        fprintf(v, ", \"%s\": %d", joined, known);
        fprintf(m, "%s %s\n", a, b);
        symbols[known++] = joined;
    }
    fputs("}", v);
    fclose(v);
    fclose(m);
    tok *t = tok_parse(vocab, n_vocab, merges, n_merges, "made", 0);
    ASSERT(t);
    while (known) free(symbols[--known]);
    free(vocab);
    free(merges);
    return t;
}

// made, once for each vocabulary while it is among the recent ones: most inputs differ from another in their text only.
static const tok *made_recently(const uint8_t *pairs, int n) {
    static struct {
        int n;
        uint8_t pairs[2 * 64];
        tok *t;
    } recent[256];
    size_t at = hash64(pairs, 2 * (size_t)n) % 256;
    if (recent[at].t && recent[at].n == n && memcmp(recent[at].pairs, pairs, 2 * (size_t)n) == 0) return recent[at].t;
    tok_close(recent[at].t);
    recent[at].n = n;
    memcpy(recent[at].pairs, pairs, 2 * (size_t)n);
    return recent[at].t = made(pairs, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *golden;
    static size_t n_golden;
    if (!golden) golden = file_read("tests/golden/tok/vocab.json", &n_golden);
    ASSERT(golden);
    if (size == 0) return 0;
    part rest = {(const char *)data, size}, vocab = {golden, n_golden};
    if (data[0] == '{' || data[0] == '#') {
        if (data[0] == '{') vocab = cut(&rest);
        part merges = cut(&rest);
        tok *t = tok_parse(vocab.at, vocab.bytes, merges.at, merges.bytes, "fuzz", 0);
        if (t) check(t, rest);
        tok_close(t);
    } else {
        size_t n = data[0] % 64;
        if (1 + 2 * n > size) n = (size - 1) / 2;
        check(made_recently(data + 1, (int)n), (part){rest.at + 1 + 2 * n, rest.bytes - 1 - 2 * n});
    }
    return 0;
}
