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

// A layer that has fewer units than U has the first ones of its row; the others are 0 in keep from the start and never in a cut.
typedef struct {
    const double *score;   // [L, U]
    const int *units;      // [L], NULL: U
    const uint8_t *there;  // [L, U], NULL: all
    int L, U;
    double *scratch;       // [L, U]
} ranking;

static int units_of(const ranking *r, int layer) { return r->units ? r->units[layer] : r->U; }

static void all_run(uint8_t *keep, const ranking *r, int layers) {
    for (int l = 0; l < layers; l++) {
        memset(keep + (size_t)l * (size_t)r->U, 1, (size_t)units_of(r, l));
        memset(keep + (size_t)l * (size_t)r->U + units_of(r, l), 0, (size_t)(r->U - units_of(r, l)));
    }
}

// top [U] becomes 1 at the m highest of layer l, 0 elsewhere.
static void layer_top(uint8_t *top, const ranking *r, int l, int m) {
    memset(top, 0, (size_t)r->U);
    memset(top, 1, (size_t)units_of(r, l));
    cut(top, r->score + (size_t)l * (size_t)r->U, NULL, 0, units_of(r, l), units_of(r, l) - m, r->scratch);
}

// Exactly n - k of the n prunable units run: the top m of every layer, the rest by rank over all layers.
static void select_hybrid(uint8_t *keep, const ranking *r, int first, int m, long n, long k) {
    const long kept = n - k;
    if ((long)m * (r->L - first) > kept) m = (int)(kept / (r->L - first));
    uint8_t *rest = xcalloc((size_t)r->L * (size_t)r->U, 1);  // what no layer reserves
    for (int l = first; l < r->L; l++) {
        uint8_t *layer = rest + (size_t)l * (size_t)r->U;
        layer_top(layer, r, l, m);
        for (int u = 0; u < units_of(r, l); u++) layer[u] = !layer[u];
    }
    cut(keep, r->score, rest, (long)first * r->U, (long)r->L * r->U, k, r->scratch);
    free(rest);
}

// The published hybrid (SEMANTICS 4.3): it repairs layers that fell below m after the global cut, and does not preserve the count.
static void select_hybrid_compat(uint8_t *keep, const ranking *r, int m, long k) {
    const long n = (long)r->L * r->U;
    uint8_t *poor = xcalloc((size_t)r->L, 1), *top = xmalloc((size_t)r->U);
    long repaired = 0;
    cut(keep, r->score, r->there, 0, n, k, r->scratch);
    for (int l = 0; l < r->L; l++) {
        int running = 0;
        for (int u = 0; u < r->U; u++) running += keep[(long)l * r->U + u];
        repaired += poor[l] = running < m;
    }
    cut(keep, r->score, keep, 0, n, repaired * m, r->scratch);
    for (int l = 0; l < r->L; l++) {
        if (!poor[l]) continue;
        layer_top(top, r, l, m);
        for (int u = 0; u < r->U; u++) keep[(long)l * r->U + u] |= top[u];
    }
    free(top);
    free(poor);
}

void mask_select(uint8_t *keep, const double *score, const int *units, int L, int U, int m, const mask_rule *rule) {
    const int dense = rule->dense_layers < L ? rule->dense_layers : L, first = rule->compat ? 0 : dense;
    ranking r = {.score = score, .units = units, .L = L, .U = U};
    long n = 0;
    all_run(keep, &r, L);
    for (int l = first; l < L; l++) n += units_of(&r, l);
    if (n == 0) return;
    uint8_t *there = NULL;
    if (units) r.there = memcpy(there = xmalloc((size_t)L * (size_t)U), keep, (size_t)L * (size_t)U);
    r.scratch = xmalloc((size_t)L * (size_t)U * sizeof *r.scratch);
    if (m > U) m = U;
    switch (rule->scope) {
    case SCOPE_LOCAL:
#pragma omp parallel for schedule(static) if (L - first > 1)
        for (int l = first; l < L; l++)
            cut(keep, score, NULL, (long)l * U, (long)l * U + units_of(&r, l), mask_count(rule->sparsity, units_of(&r, l)), r.scratch + (size_t)l * (size_t)U);
        break;
    case SCOPE_GLOBAL: cut(keep, score, r.there, (long)first * U, (long)L * U, mask_count(rule->sparsity, n), r.scratch); break;
    case SCOPE_HYBRID:
        if (rule->compat) select_hybrid_compat(keep, &r, m, mask_count(rule->sparsity, n));
        else select_hybrid(keep, &r, first, m, n, mask_count(rule->sparsity, n));
        break;
    }
    all_run(keep, &r, dense);
    free(r.scratch);
    free(there);
}
