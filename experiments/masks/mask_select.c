// mask_select - which units of a kind run, from their scores: the rules of METHOD 6. Contract in mask.h.
//
// No unit is sorted: a rule is a few cuts "the k lowest of these units go", and a cut needs only the k-th lowest score
// and how many of the units that tie with it go (lowest.h). Scores that a predictor put into a device's memory stay
// there: the device cuts.
#include "mask.h"
#include "lowest.h"
#include "ops.h"
#include <stdlib.h>
#include <string.h>

// A layer that has fewer units than U has the first ones of its row; the others are 0 in keep from the start and never
// in a cut.
typedef struct {
    const double *score;  // [L, U] in host memory; or NULL and
    const float *on;      // in memory of a device
    const ops *o;
    const int *units;      // [L], NULL: U
    const uint8_t *there;  // [L, U], NULL: all
    int L, U;
    double *scratch;   // [L, U]
    cut_range *layer;  // [L]
    long bad;          // place of a score that is NaN or infinite, which the device has found; -1: none
} ranking;

static int units_of(const ranking *r, int layer) { return r->units ? r->units[layer] : r->U; }

static void all_run(uint8_t *keep, const ranking *r, int layers) {
    for (int l = 0; l < layers; l++) {
        memset(keep + (size_t)l * (size_t)r->U, 1, (size_t)units_of(r, l));
        memset(keep + (size_t)l * (size_t)r->U + units_of(r, l), 0, (size_t)(r->U - units_of(r, l)));
    }
}

// In each range the k lowest of the units that `only` (NULL: all) holds stop running, the others run.
static void cut(uint8_t *keep, ranking *r, const uint8_t *only, const cut_range *c, int n) {
    if (r->o) {
        const long bad = r->o->cut(keep, r->on, only, c, n);
        if (r->bad < 0) r->bad = bad;
        return;
    }
#pragma omp parallel for schedule(static) if (n > 1)
    for (int i = 0; i < n; i++) cut_lowest(keep, r->score, only, &c[i], r->scratch + c[i].first);
}

static int first_counted(int L, const mask_rule *rule) {
    if (rule->mode == MODE_COMPAT) return 0;
    return rule->dense_layers < L ? rule->dense_layers : L;
}

// ---------------------------------------------------------------- counts of a local scope
static unsigned reverse_bits(unsigned x, int bits) {
    unsigned y = 0;
    for (int b = 0; b < bits; b++) y |= (x >> b & 1) << (bits - 1 - b);
    return y;
}

// No sort and no memory: a predictor that looks ahead asks for one layer at a time, at every token.
long mask_local_count(const int *units, int L, int U, const mask_rule *rule, int layer) {
    const int first = first_counted(L, rule);
    if (layer < first) return 0;
    const long own = units ? units[layer] : U, own_rest = rule->sparsity * own % 100000;
    long all = 0, given = 0, before = 0;  // before: layers that lose one unit more than the floor rather than this one
    int bits = 0;
    while (1 << bits < L - first) bits++;
    const unsigned place = reverse_bits((unsigned)(layer - first), bits);
    for (int l = first; l < L; l++) {
        const long n = units ? units[l] : U, rest = rule->sparsity * n % 100000;
        all += n;
        given += mask_count(rule->sparsity, n);
        before += rest > own_rest || (rest == own_rest && reverse_bits((unsigned)(l - first), bits) < place);
    }
    const bool spread = rule->mode == MODE_SOUND && rule->counts == COUNTS_SPREAD;
    const long left = spread ? mask_count(rule->sparsity, all) - given : 0;
    return mask_count(rule->sparsity, own) + (before < left);
}

// ---------------------------------------------------------------- scopes
// In every layer from `first` on its share of the sparsity goes.
static void local_ranges(const ranking *r, int first, const mask_rule *rule) {
    for (int l = first; l < r->L; l++) {
        const long k = mask_local_count(r->units, r->L, r->U, rule, l);
        r->layer[l] = (cut_range){(long)l * r->U, units_of(r, l), k};
    }
}

static void cut_local(uint8_t *keep, ranking *r, int first, const mask_rule *rule) {
    local_ranges(r, first, rule);
    cut(keep, r, NULL, r->layer + first, r->L - first);
}

// From `first` on the lowest of all layers go, of n units.
static cut_range global_range(const ranking *r, int first, long n, const mask_rule *rule) {
    return (cut_range){(long)first * r->U, (long)(r->L - first) * r->U, mask_count(rule->sparsity, n)};
}

// top becomes 1 at the m highest of every layer from `first` on, 0 at its others.
static void cut_top(uint8_t *top, ranking *r, int first, int m) {
    for (int l = first; l < r->L; l++) r->layer[l] = (cut_range){(long)l * r->U, units_of(r, l), units_of(r, l) - m};
    cut(top, r, NULL, r->layer + first, r->L - first);
}

// Exactly n - k of the n prunable units run: the top m of every layer, the rest by rank over all layers.
static void select_hybrid(uint8_t *keep, ranking *r, int first, int m, long n, long k) {
    const long kept = n - k;
    if ((long)m * (r->L - first) > kept) m = (int)(kept / (r->L - first));
    uint8_t *rest = xcalloc((size_t)r->L * (size_t)r->U, 1);  // what no layer reserves
    cut_top(rest, r, first, m);
    for (int l = first; l < r->L; l++)
        for (int u = 0; u < units_of(r, l); u++) rest[(long)l * r->U + u] ^= 1;
    cut(keep, r, rest, &(cut_range){(long)first * r->U, (long)(r->L - first) * r->U, k}, 1);
    free(rest);
}

// The published hybrid (METHOD 6.4): it repairs layers that fell below m after the global cut, and does not preserve
// the count.
static void select_hybrid_compat(uint8_t *keep, ranking *r, int m, long k) {
    const long n = (long)r->L * r->U;
    uint8_t *poor = xcalloc((size_t)r->L, 1), *top = xcalloc((size_t)n, 1);
    long repaired = 0;
    cut(keep, r, r->there, &(cut_range){0, n, k}, 1);
    for (int l = 0; l < r->L; l++) {
        int running = 0;
        for (int u = 0; u < r->U; u++) running += keep[(long)l * r->U + u];
        repaired += poor[l] = running < m;
    }
    cut(keep, r, keep, &(cut_range){0, n, repaired * m}, 1);
    if (repaired) cut_top(top, r, 0, m);
    for (long i = 0; i < n; i++) keep[i] |= poor[i / r->U] & top[i];
    free(top);
    free(poor);
}

static void select_units(uint8_t *keep, ranking *r, int m, const mask_rule *rule) {
    const int dense = rule->dense_layers < r->L ? rule->dense_layers : r->L, first = first_counted(r->L, rule);
    const size_t all = (size_t)r->L * (size_t)r->U;
    long n = 0;
    all_run(keep, r, r->L);
    for (int l = first; l < r->L; l++) n += units_of(r, l);
    if (n == 0) return;
    uint8_t *there = NULL;
    if (r->units) r->there = memcpy(there = xmalloc(all), keep, all);
    if (!r->o) r->scratch = xmalloc(all * sizeof *r->scratch);
    r->layer = xmalloc((size_t)r->L * sizeof *r->layer);
    if (m > r->U) m = r->U;
    switch (rule->scope) {
    case SCOPE_LOCAL: cut_local(keep, r, first, rule); break;
    case SCOPE_GLOBAL:
        r->layer[0] = global_range(r, first, n, rule);
        cut(keep, r, r->there, r->layer, 1);
        break;
    case SCOPE_HYBRID:
        if (rule->mode == MODE_COMPAT)
            select_hybrid_compat(keep, r, m, mask_count(rule->sparsity, n));
        else
            select_hybrid(keep, r, first, m, n, mask_count(rule->sparsity, n));
        break;
    }
    all_run(keep, r, dense);
    free(r->layer);
    free(r->scratch);
    free(there);
}

void mask_select(uint8_t *keep, const double *score, const int *units, int L, int U, int m, const mask_rule *rule) {
    ranking r = {.score = score, .units = units, .L = L, .U = U};
    select_units(keep, &r, m, rule);
}

long mask_select_on(uint8_t *keep, const ops *o, const float *score, const int *units, int L, int U, int m,
                    const mask_rule *rule) {
    ranking r = {.on = score, .o = o, .units = units, .L = L, .U = U, .bad = -1};
    o->use(0);
    select_units(keep, &r, m, rule);
    return r.bad;
}

void mask_select_there(uint8_t *keep, const uint8_t *there, int32_t *bad, const ops *o, const float *score,
                       const int *units, int L, int U, const mask_rule *rule) {
    ranking r = {.units = units, .L = L, .U = U};
    const int dense = rule->dense_layers < L ? rule->dense_layers : L, first = first_counted(L, rule);
    long n = 0;
    for (int l = first; l < L; l++) n += units_of(&r, l);
    o->use(0);
    if (n == 0) return;
    r.layer = xmalloc((size_t)L * sizeof *r.layer);
    if (rule->scope == SCOPE_LOCAL)
        local_ranges(&r, first, rule);
    else
        r.layer[first] = global_range(&r, first, n, rule);
    o->cut_here(keep, bad, score, units && rule->scope == SCOPE_GLOBAL ? there : NULL, r.layer + first,
                rule->scope == SCOPE_LOCAL ? L - first : 1);
    if (first < dense) o->copy(keep, there, (size_t)dense * (size_t)U);
    free(r.layer);
}

long mask_select_layer(uint8_t *keep, const ops *o, const float *score, int units, long k) {
    o->use(0);
    memset(keep, 1, (size_t)units);
    return units ? o->cut(keep, score, NULL, &(cut_range){0, units, k}, 1) : -1;
}
