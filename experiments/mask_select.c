// mask_select - which units of a kind run, from their scores: the rules of SEMANTICS 4.3 and 12. Contract in mask.h.
//
// No unit is sorted: a rule is a few cuts "the k lowest of these units go", and a cut needs only the k-th lowest score and how many of
// the units that tie with it go. That score is found by bucket selection: the range of the scores is divided into equal buckets, which
// are counted; what is not in the bucket of the k-th lowest is out of the running. A few passes over the scores, so that a mask can be
// made for every token.
#include "mask.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 48, BUCKETS = 1024, ROUNDS = 8 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void sort_few(double *v, long n) {
    for (long i = 1; i < n; i++) {
        const double x = v[i];
        long j = i;
        for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
}

// One round: v[0..n) becomes its values in the bucket of the k-th lowest (k from 0); *k counts from there on. Returns their number; n
// itself when buckets cannot divide the range. The bucket of x is a monotone function of x, whatever the rounding.
static long narrow(double *v, long n, long *k, double lo, double hi) {
    const double scale = (BUCKETS - 1) / (hi - lo);
    if (!isfinite(scale) || scale <= 0 || !isfinite(hi - lo)) return n;
    long count[BUCKETS] = {0}, below = 0, kept = 0;
    for (long i = 0; i < n; i++) count[(int)((v[i] - lo) * scale)]++;
    int at = 0;
    while (below + count[at] <= *k) below += count[at++];
    if (count[at] == n) return n;
    for (long i = 0; i < n; i++) {
        v[kept] = v[i];
        kept += (int)((v[i] - lo) * scale) == at;
    }
    *k -= below;
    return kept;
}

// The k-th lowest (k from 0) of v[0..n), which is overwritten; *ties: how many of the k + 1 lowest equal it.
static double kth_lowest(double *v, long n, long k, long *ties) {
    for (int round = 0; n > FEW; round++) {
        double lo = v[0], hi = v[0];
#pragma omp simd reduction(min : lo) reduction(max : hi)
        for (long i = 1; i < n; i++) {
            lo = v[i] < lo ? v[i] : lo;
            hi = v[i] > hi ? v[i] : hi;
        }
        if (lo == hi) {
            *ties = k + 1;
            return lo;
        }
        const long left = round < ROUNDS ? narrow(v, n, &k, lo, hi) : n;
        if (left == n) break;
        n = left;
    }
    if (n > FEW) qsort(v, (size_t)n, sizeof *v, ascending);
    else sort_few(v, n);
    *ties = 1;
    while (*ties <= k && v[k - *ties] == v[k]) ++*ties;
    return v[k];
}

// Of the units [first, end), those that `only` (NULL: all) holds: the k lowest stop running. scratch has room for end - first.
static void cut(uint8_t *keep, const double *score, const uint8_t *only, long first, long end, long k, double *scratch) {
    long n = 0, ties;
    if (k <= 0) return;
    for (long i = first; i < end; i++) {
        scratch[n] = score[i];
        n += only ? only[i] : 1;
    }
    if (n == 0) return;
    if (k > n) k = n;
    const double last = kth_lowest(scratch, n, k - 1, &ties);
    for (long i = first; i < end; i++) {
        if (only && !only[i]) continue;
        if (score[i] < last) keep[i] = 0;
        else if (score[i] == last && ties > 0) {
            keep[i] = 0;
            ties--;
        }
    }
}

// top [U] becomes 1 at the m highest of one layer.
static void layer_top(uint8_t *top, const double *score, int U, int m, double *scratch) {
    memset(top, 1, (size_t)U);
    cut(top, score, NULL, 0, U, U - m, scratch);
}

// Exactly n - k of the prunable units run: the top m of every layer, the rest by rank over all layers.
static void select_hybrid(uint8_t *keep, const double *score, int first, int L, int U, int m, long k, double *scratch) {
    const long n = (long)(L - first) * U, kept = n - k;
    if ((long)m * (L - first) > kept) m = (int)(kept / (L - first));
    uint8_t *rest = xcalloc((size_t)L * (size_t)U, 1);  // what no layer reserves
    for (int l = first; l < L; l++) {
        uint8_t *layer = rest + (size_t)l * (size_t)U;
        layer_top(layer, score + (size_t)l * (size_t)U, U, m, scratch);
        for (int u = 0; u < U; u++) layer[u] = !layer[u];
    }
    cut(keep, score, rest, (long)first * U, (long)L * U, k, scratch);
    free(rest);
}

// The published hybrid (SEMANTICS 4.3): it repairs layers that fell below m after the global cut, and does not preserve the count.
static void select_hybrid_compat(uint8_t *keep, const double *score, int L, int U, int m, long k, double *scratch) {
    const long n = (long)L * U;
    uint8_t *poor = xcalloc((size_t)L, 1), *top = xmalloc((size_t)U);
    long repaired = 0;
    cut(keep, score, NULL, 0, n, k, scratch);
    for (int l = 0; l < L; l++) {
        int running = 0;
        for (int u = 0; u < U; u++) running += keep[(long)l * U + u];
        repaired += poor[l] = running < m;
    }
    cut(keep, score, keep, 0, n, repaired * m, scratch);
    for (int l = 0; l < L; l++) {
        if (!poor[l]) continue;
        layer_top(top, score + (size_t)l * (size_t)U, U, m, scratch);
        for (int u = 0; u < U; u++) keep[(long)l * U + u] |= top[u];
    }
    free(top);
    free(poor);
}

void mask_select(uint8_t *keep, const double *score, int L, int U, int m, const mask_rule *rule) {
    const int dense = rule->dense_layers < L ? rule->dense_layers : L, first = rule->compat ? 0 : dense;
    const long n = (long)(L - first) * U;
    memset(keep, 1, (size_t)L * (size_t)U);
    if (n == 0) return;
    double *scratch = xmalloc((size_t)n * sizeof *scratch);
    if (m > U) m = U;
    switch (rule->scope) {
    case SCOPE_LOCAL:
        for (int l = first; l < L; l++) cut(keep, score, NULL, (long)l * U, (long)(l + 1) * U, mask_count(rule->sparsity, U), scratch);
        break;
    case SCOPE_GLOBAL: cut(keep, score, NULL, (long)first * U, (long)L * U, mask_count(rule->sparsity, n), scratch); break;
    case SCOPE_HYBRID:
        (rule->compat ? select_hybrid_compat(keep, score, L, U, m, mask_count(rule->sparsity, n), scratch)
                      : select_hybrid(keep, score, first, L, U, m, mask_count(rule->sparsity, n), scratch));
        break;
    }
    memset(keep, 1, (size_t)dense * (size_t)U);
    free(scratch);
}
