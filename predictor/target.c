// target - see target.h.
#include "target.h"
#include "base.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int larger_first(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

void top_labels(float *out, const float *x, int n, int k) {
    float *sorted = xmalloc((size_t)n * sizeof *sorted);
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, larger_first);
    const float least = sorted[k - 1];
    const bool fit = k == n || sorted[k] < least;
    for (int i = 0; i < n; i++) out[i] = fit ? x[i] >= least : x[i] > least;
    free(sorted);
}

// ---------------------------------------------------------------- split
typedef struct {
    uint64_t key;
    const char *task, *id;
    int row;
} document;

static int same_document(const document *x, const document *y) {
    const int by_task = strcmp(x->task, y->task);
    return by_task ? by_task : strcmp(x->id, y->id);
}

static int by_key(const void *a, const void *b) {
    const document *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    const int by_name = same_document(x, y);
    return by_name ? by_name : (x->row > y->row) - (x->row < y->row);
}

int split_documents(uint8_t *parts, char *const *task, char *const *id, int n, double train, double test,
                    uint64_t seed) {
    document *d = xmalloc((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++)
        d[i] = (document){rng_hash(seed, hash64(task[i], strlen(task[i])), hash64(id[i], strlen(id[i]))), task[i],
                          id[i], i};
    qsort(d, (size_t)n, sizeof *d, by_key);
    int count = 0;
    for (int i = 0; i < n; i++) count += i == 0 || same_document(&d[i - 1], &d[i]) != 0;
    int n_train = (int)floor(train * count + 1e-9), n_test = (int)ceil(test * count - 1e-9);
    if (n_train < 1) n_train = 1;
    if (n_test < 1) n_test = 1;
    const bool valid = train + test < 1 - 1e-9;
    if (valid && n_train + n_test >= count) n_train = count - n_test - 1;
    if (!valid) n_train = count - n_test;
    for (int i = 0, at = -1; i < n; i++) {
        at += i == 0 || same_document(&d[i - 1], &d[i]) != 0;
        const uint8_t later = at >= count - n_test ? PART_TEST : PART_VALID;
        parts[d[i].row] = at < n_train ? PART_TRAIN : later;
    }
    free(d);
    return n_train < 1 ? err_set("%d documents are too few for the parts of the split; score more examples", count) : 0;
}
