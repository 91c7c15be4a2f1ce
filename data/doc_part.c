// doc_part - parts and the seeded order of documents and pages. Contract in doc_part.h.
#include "doc_part.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *const over_long_names[] = {"stop", "skip", "cut", NULL};

int doc_part_parse(doc_part *p, const char *text) {
    char *slash = NULL, *end = NULL;
    *p = (doc_part){0};
    if (!*text) return 0;
    const long i = strtol(text, &slash, 10), n = *slash == '/' ? strtol(slash + 1, &end, 10) : 0;
    const bool digits = isdigit((unsigned char)text[0]) && *slash == '/' && isdigit((unsigned char)slash[1]) && !*end;
    if (!digits || i < 1 || i > n || n > 1000000)
        return err_set("%s: not i/n with 1 <= i <= n; 1/2 and 2/2 are the halves of the documents", text);
    if (n > 1) *p = (doc_part){(int)i, (int)n};
    return 0;
}

void doc_part_text(char out[DOC_PART_TEXT], doc_part p) {
    out[0] = 0;
    if (p.n) snprintf(out, DOC_PART_TEXT, "%d/%d", p.i, p.n);
}

static uint64_t name_key(const char *name) { return hash64(name, strlen(name)); }

static int32_t *permutation(uint64_t seed, int n) {
    int32_t *p = xmalloc((size_t)n * sizeof *p);
    rng r = rng_make(seed);
    rng_permutation(&r, p, n);
    return p;
}

// The third number keeps the draws apart: 0 is the seeded order, document + 1 a few-shot prefix (task_shots).
int32_t *doc_order(const char *name, int n, uint64_t seed) { return permutation(rng_hash(seed, name_key(name), 0), n); }

static int by_number(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

int32_t *doc_part_members(doc_part p, const char *name, int n, int *count) {
    const int parts = p.n ? p.n : 1, i = p.n ? p.i : 1;
    const int from = (int)((int64_t)n * (i - 1) / parts), to = (int)((int64_t)n * i / parts);
    int32_t *all = permutation(rng_hash(0, name_key(name), UINT64_MAX), n);
    *count = to - from;
    memmove(all, all + from, (size_t)*count * sizeof *all);
    qsort(all, (size_t)*count, sizeof *all, by_number);
    return all;
}
