// mask - selection of units by score, random masks, mask files. Contract in mask.h, rules in SEMANTICS 4.2, 4.3, 12.
#include "mask.h"
#include "cli.h"
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const mask_scope_names[] = {"local", "global", "hybrid"};

const char *mask_units_name(unsigned units) {
    return units == UNITS_BOTH ? "both" : units == UNITS_HEADS ? "heads" : "neurons";
}

// ---------------------------------------------------------------- sparsities
// Digits are read by hand: strtod would turn 0.1 into something below it, and floor(p n / 100) shows such a difference.
long mask_parse_sparsity(const char *text) {
    long whole = 0, part = 0, scale = 1000;
    const char *p = text;
    int digits = 0;
    for (; *p >= '0' && *p <= '9' && whole <= 100; p++, digits++) whole = 10 * whole + (*p - '0');
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9' && scale > 1; p++, digits++) part += (scale /= 10) * (*p - '0');
    long sparsity = 1000 * whole + part;
    if (*p || !digits || sparsity > 100000)
        return err_set("sparsity %s: a percentage from 0 to 100 with at most three decimals is wanted", text);
    return sparsity;
}

long *mask_parse_sparsities(const char *list, int *n) {
    char **item = cli_split(list, n);
    long *out = xmalloc((size_t)*n * sizeof *out);
    bool ok = *n > 0;
    if (!ok) err_set("no sparsity is named; --sparsity takes a list such as 0,10,50");
    for (int i = 0; i < *n && ok; i++) ok = (out[i] = mask_parse_sparsity(item[i])) >= 0;
    free(item);
    if (ok) return out;
    free(out);
    return NULL;
}

long mask_count(long sparsity, long n) { return sparsity * n / 100000; }

// ---------------------------------------------------------------- masks
static size_t units_of(const opt_config *c, bool neurons) { return (size_t)c->L * (size_t)(neurons ? c->F : c->H); }

void mask_alloc(mask *m, const opt_config *c) {
    m->heads = xmalloc(units_of(c, false) + units_of(c, true));
    m->neurons = m->heads + units_of(c, false);
    mask_fill(m, c);
}

void mask_free(mask *m) {
    free(m->heads);
    *m = (mask){0};
}

void mask_fill(mask *m, const opt_config *c) {
    memset(m->heads, 1, units_of(c, false));
    memset(m->neurons, 1, units_of(c, true));
}

typedef struct { double score; int32_t unit; } ranked;

static int by_importance(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

// Units [first, end) in the order in which they are pruned. order has room for end - first.
static void rank_units(ranked *order, const double *score, long first, long end) {
    for (long i = first; i < end; i++) order[i - first] = (ranked){score[i], (int32_t)i};
    qsort(order, (size_t)(end - first), sizeof *order, by_importance);
}

static void set_all(uint8_t *keep, const ranked *order, long n, uint8_t value) {
    for (long i = 0; i < n; i++) keep[order[i].unit] = value;
}

// Prunes the k lowest running units among `order`.
static void prune_running(uint8_t *keep, const ranked *order, long n, long k) {
    for (long i = 0; i < n && k > 0; i++)
        if (keep[order[i].unit]) {
            keep[order[i].unit] = 0;
            k--;
        }
}

static void select_local(uint8_t *keep, const double *score, int first, int L, int U, long k, ranked *order) {
    for (int l = first; l < L; l++) {
        rank_units(order, score, (long)l * U, (long)(l + 1) * U);
        set_all(keep, order, k, 0);
    }
}

// Exactly `keep_n` units run: m of every layer, the rest by rank over all layers.
static void select_hybrid(uint8_t *keep, const double *score, int first, int L, int U, int m, long k, ranked *order) {
    long n = (long)(L - first) * U, kept = n - k;
    if ((long)m * (L - first) > kept) m = (int)(kept / (L - first));
    uint8_t *reserved = xcalloc((size_t)L * (size_t)U, 1);
    for (int l = first; l < L; l++) {
        rank_units(order, score, (long)l * U, (long)(l + 1) * U);
        set_all(reserved, order + (U - m), m, 1);
    }
    rank_units(order, score, (long)first * U, (long)L * U);
    for (long i = 0; i < n && k > 0; i++)
        if (!reserved[order[i].unit]) {
            keep[order[i].unit] = 0;
            k--;
        }
    ASSERT(k == 0);
    free(reserved);
}

// The published hybrid (SEMANTICS 4.3): it repairs layers that fell below m after the global cut, and does not preserve the count.
static void select_hybrid_compat(uint8_t *keep, const double *score, int L, int U, int m, long k, ranked *order) {
    long n = (long)L * U;
    rank_units(order, score, 0, n);
    set_all(keep, order, k, 0);
    uint8_t *poor = xcalloc((size_t)L, 1);
    long repaired = 0;
    for (int l = 0; l < L; l++) {
        int running = 0;
        for (int u = 0; u < U; u++) running += keep[(long)l * U + u];
        repaired += poor[l] = running < m;
    }
    prune_running(keep, order, n, repaired * m);
    for (int l = 0; l < L; l++) {
        if (!poor[l]) continue;
        rank_units(order, score, (long)l * U, (long)(l + 1) * U);
        set_all(keep, order + (U - m), m, 1);
    }
    free(poor);
}

void mask_select(uint8_t *keep, const double *score, int L, int U, int m, const mask_rule *rule) {
    int dense = rule->dense_layers < L ? rule->dense_layers : L, first = rule->compat ? 0 : dense;
    long n = (long)(L - first) * U;
    memset(keep, 1, (size_t)L * (size_t)U);
    if (n == 0) return;
    ranked *order = xmalloc((size_t)n * sizeof *order);
    if (m > U) m = U;
    switch (rule->scope) {
    case SCOPE_LOCAL: select_local(keep, score, first, L, U, mask_count(rule->sparsity, U), order); break;
    case SCOPE_GLOBAL:
        rank_units(order, score, (long)first * U, (long)L * U);
        set_all(keep, order, mask_count(rule->sparsity, n), 0);
        break;
    case SCOPE_HYBRID:
        (rule->compat ? select_hybrid_compat(keep, score, L, U, m, mask_count(rule->sparsity, n), order)
                      : select_hybrid(keep, score, first, L, U, m, mask_count(rule->sparsity, n), order));
        break;
    }
    memset(keep, 1, (size_t)dense * (size_t)U);
    free(order);
}

static int check_finite(const double *score, int L, int U, const char *kind) {
    for (int l = 0; l < L; l++)
        for (int u = 0; u < U; u++)
            if (!isfinite(score[(long)l * U + u]))
                return err_set("the score of layer %d %s %d is %g; units cannot be ranked by it", l, kind, u, score[(long)l * U + u]);
    return 0;
}

int mask_make(mask *m, const opt_config *c, const double *heads, const double *neurons, const mask_rule *rule) {
    mask_fill(m, c);
    if (rule->units & UNITS_HEADS) {
        if (check_finite(heads, c->L, c->H, "head")) return -1;
        mask_select(m->heads, heads, c->L, c->H, 1, rule);
    }
    if ((rule->units & UNITS_NEURONS) && !rule->compat) {
        if (check_finite(neurons, c->L, c->F, "neuron")) return -1;
        mask_select(m->neurons, neurons, c->L, c->F, c->F / 32 > 1 ? c->F / 32 : 1, rule);
    }
    return 0;
}

void mask_random_scores(double *heads, double *neurons, const opt_config *c, uint64_t seed) {
    for (size_t i = 0; i < units_of(c, false); i++) heads[i] = (double)(rng_hash(seed, 0, i) >> 11) * 0x1p-53;
    for (size_t i = 0; i < units_of(c, true); i++) neurons[i] = (double)(rng_hash(seed, 1, i) >> 11) * 0x1p-53;
}

void mask_effective(const mask *m, const opt_config *c, double *heads, double *neurons) {
    size_t nh = units_of(c, false), nn = units_of(c, true), off = 0;
    for (size_t i = 0; m && i < nh; i++) off += !m->heads[i];
    *heads = (double)off / (double)nh;
    off = 0;
    for (size_t i = 0; m && i < nn; i++) off += !m->neurons[i];
    *neurons = (double)off / (double)nn;
}

void mask_hash(char out[33], const mask *m, const opt_config *c) { hash_bytes(out, m->heads, units_of(c, false) + units_of(c, true)); }

// ---------------------------------------------------------------- mask files
static int read_kind(uint8_t *out, hid_t file, const char *path, const char *name, int L, int U) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return err_set("%s: no dataset %s; a mask file has /mask/heads and /mask/neurons", path, name);
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    hsize_t dim[2] = {0, 0};
    int bad = 0;
    if (H5Sget_simple_extent_ndims(space) != 2 || H5Sget_simple_extent_dims(space, dim, NULL) != 2 || dim[0] != (hsize_t)L ||
        dim[1] != (hsize_t)U)
        bad = err_set("%s: %s has not the shape [%d, %d] of this model", path, name, L, U);
    else if (H5Tget_class(type) != H5T_INTEGER || H5Tget_size(type) != 1 || H5Tget_sign(type) != H5T_SGN_NONE)
        bad = err_set("%s: %s is not of type uint8", path, name);
    else if (H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        bad = err_set("%s: %s cannot be read; the file is damaged", path, name);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    for (long i = 0; !bad && i < (long)L * U; i++)
        if (out[i] > 1) bad = err_set("%s: %s: layer %ld unit %ld is %d; 0 and 1 are allowed", path, name, i / U, i % U, out[i]);
    return bad;
}

int mask_read(mask *m, const opt_config *c, const char *path) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);  // one line of our own instead of the library's stack
    if (!file_exists(path)) return err_set("%s: no such file; --mask file:PATH names a mask file", path);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) return err_set("%s: not an HDF5 file, or it cannot be opened", path);
    int bad = read_kind(m->heads, file, path, "/mask/heads", c->L, c->H);
    if (!bad) bad = read_kind(m->neurons, file, path, "/mask/neurons", c->L, c->F);
    H5Fclose(file);
    return bad;
}
