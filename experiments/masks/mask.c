// mask - masks from scores, random masks, mask files. Contract in mask.h; the selection itself is in mask_select.c.
#include "mask.h"
#include "cli.h"
#include "lowest.h"
#include "mask_groups.h"
#include "ops.h"
#include "store_hdf5.h"
#include <gsl/gsl_statistics_double.h>
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const mask_scope_names[] = {"local", "global", "hybrid", NULL};
const char *const mask_counts_names[] = {"spread", "floor", NULL};
const char *const mask_units_names[] = {"heads", "neurons", "both", NULL};
const int mask_units_values[] = {UNITS_HEADS, UNITS_NEURONS, UNITS_BOTH};

const char *mask_units_name(unsigned units) {
    int k = 0;
    while (mask_units_values[k] != (int)units) k++;
    return mask_units_names[k];
}

const char *mask_counts_name(const mask_rule *rule) {
    if (rule->scope != SCOPE_LOCAL) return "";
    return mask_counts_names[rule->mode == MODE_COMPAT ? COUNTS_FLOOR : rule->counts];
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
    if (!ok) err_set("no sparsity is named; a list such as 0,10,50 is wanted");
    for (int i = 0; i < *n && ok; i++) ok = (out[i] = mask_parse_sparsity(item[i])) >= 0;
    free(item);
    if (ok) return out;
    err_prefix("--sparsity");
    free(out);
    return NULL;
}

long mask_count(long sparsity, long n) { return sparsity * n / 100000; }

// ---------------------------------------------------------------- masks
static size_t units_of(const model_config *c, unit_kind kind) {
    return (size_t)c->L * (size_t)model_all_units(c, kind);
}

// The units of a compacted model that are gone: 0.
static void clear_absent(uint8_t *keep, const model_config *c, unit_kind kind) {
    const int U = model_all_units(c, kind);
    for (int l = 0; l < c->L; l++)
        memset(keep + (size_t)l * (size_t)U + model_units(c, l, kind), 0, (size_t)(U - model_units(c, l, kind)));
}

void mask_alloc(mask *m, const model_config *c) {
    m->heads = xmalloc(units_of(c, UNIT_HEADS) + units_of(c, UNIT_NEURONS));
    m->neurons = m->heads + units_of(c, UNIT_HEADS);
    mask_fill(m, c);
}

void mask_free(mask *m) {
    free(m->heads);
    *m = (mask){0};
}

void mask_fill(mask *m, const model_config *c) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        memset(mask_keep(m, kind), 1, units_of(c, kind));
        clear_absent(mask_keep(m, kind), c, kind);
    }
}

// units [L]: how many of the U each layer has; NULL: all.
static int check_finite(const double *score, const int *units, int L, int U, const char *kind) {
    for (int l = 0; l < L; l++)
        for (int u = 0; u < (units ? units[l] : U); u++)
            if (!isfinite(score[(long)l * U + u]))
                return err_set("the score of layer %d %s %d is %g; units cannot be ranked by it", l, kind, u,
                               score[(long)l * U + u]);
    return 0;
}

bool mask_rule_prunes(const mask_rule *rule, unit_kind kind) {
    return rule->units & 1u << kind && !(kind == UNIT_NEURONS && rule->mode == MODE_COMPAT);
}

// Units of a layer that hybrid reserves.
static int least_of(unit_kind kind, int U) { return kind == UNIT_NEURONS && U / 32 > 1 ? U / 32 : 1; }

// Of every layer on its own; units [L]: how many of the U each has, NULL: all; NaN after those. Caller frees.
static double *standardised(const double *score, const int *units, int L, int U) {
    double *out = xmalloc((size_t)L * (size_t)U * sizeof *out);
    for (int l = 0; l < L; l++) {
        const int n = units ? units[l] : U;
        const double *from = score + (size_t)l * (size_t)U, mean = n ? gsl_stats_mean(from, 1, (size_t)n) : 0,
                     sd = n > 1 ? gsl_stats_sd_m(from, 1, (size_t)n, mean) : 0;
        for (int u = 0; u < U; u++) out[(size_t)l * (size_t)U + (size_t)u] = u < n ? 0 : NAN;
        for (int u = 0; u < n && sd > 0; u++) out[(size_t)l * (size_t)U + (size_t)u] = (from[u] - mean) / sd;
    }
    return out;
}

static void select_from(uint8_t *keep, const double *score, const int *units, int L, int U, int m,
                        const mask_rule *rule) {
    double *own = rule->standardise && rule->scope != SCOPE_LOCAL ? standardised(score, units, L, U) : NULL;
    mask_select(keep, own ? own : score, units, L, U, m, rule);
    free(own);
}

static bool by_groups(const mask_rule *rule, unit_kind kind) { return kind == UNIT_HEADS && mask_rule_groups(rule); }

// Whole groups of heads, by the means of their scores.
static void select_groups(uint8_t *keep, const model_config *c, const double *score, const mask_rule *rule) {
    const size_t K = (size_t)mask_groups(c), all = (size_t)c->L * K, H = (size_t)c->H;
    int *units = mask_groups_left(c);
    double *mean = xmalloc(all * sizeof *mean);
    uint8_t *kept = xmalloc(all);
    for (size_t i = 0; i < all; i++) mean[i] = NAN;
    for (int l = 0; l < c->L; l++) mask_groups_mean(mean + (size_t)l * K, c, l, score + (size_t)l * H);
    select_from(kept, mean, units, c->L, (int)K, least_of(UNIT_HEADS, (int)K), rule);
    for (int l = 0; l < c->L; l++) mask_groups_spread(keep + (size_t)l * H, c, l, kept + (size_t)l * K);
    free(kept);
    free(mean);
    free(units);
}

static int make_kind(mask *m, const model_config *c, unit_kind kind, const double *score, const mask_rule *rule) {
    const int U = model_all_units(c, kind), *units = model_units_left(c, kind);
    if (!mask_rule_prunes(rule, kind)) return 0;
    if (check_finite(score, units, c->L, U, unit_names_of_one[kind])) return -1;
    if (by_groups(rule, kind))
        select_groups(mask_keep(m, kind), c, score, rule);
    else
        select_from(mask_keep(m, kind), score, units, c->L, U, least_of(kind, U), rule);
    return 0;
}

int mask_make(mask *m, const model_config *c, const double *heads, const double *neurons, const mask_rule *rule) {
    mask_fill(m, c);
    return make_kind(m, c, UNIT_HEADS, heads, rule) ? -1 : make_kind(m, c, UNIT_NEURONS, neurons, rule);
}

// What mask_select_on returns.
static int check_place(const ops *o, const float *score, long bad, int U, const char *kind) {
    float x;
    if (bad < 0) return 0;
    o->get(&x, score + bad, sizeof x);
    return err_set("the score of layer %ld %s %ld is %g; units cannot be ranked by it", bad / U, kind, bad % U,
                   (double)x);
}

// Scores out of a device's memory; caller frees.
static double *fetched(const ops *o, const float *score, size_t n) {
    float *some = xmalloc(n * sizeof *some);
    double *out = xmalloc(n * sizeof *out);
    o->use(0);
    o->get(some, score, n * sizeof *some);
    for (size_t i = 0; i < n; i++) out[i] = (double)some[i];
    free(some);
    return out;
}

// Of heads by groups: they are few, and what their groups score is no array of the device.
static int make_groups(mask *m, const model_config *c, const ops *o, const float *score, const mask_rule *rule) {
    double *own = fetched(o, score, units_of(c, UNIT_HEADS));
    const int bad = make_kind(m, c, UNIT_HEADS, own, rule);
    free(own);
    return bad;
}

static int make_groups_of_layer(uint8_t *keep, const model_config *c, int layer, const ops *o, const float *score,
                                const mask_rule *rule) {
    const int H = model_units(c, layer, UNIT_HEADS), K = mask_groups(c);
    double *own = fetched(o, score, (size_t)H), *mean = xmalloc(2 * (size_t)K * sizeof *mean);
    uint8_t *kept = xmalloc((size_t)K);
    int *units = mask_groups_left(c), bad = 0;
    for (int h = 0; h < H && !bad; h++)
        if (!isfinite(own[h]))
            bad = err_set("the score of layer %d head %d is %g; units cannot be ranked by it", layer, h, own[h]);
    if (!bad) {
        mask_groups_mean(mean, c, layer, own);
        memset(kept, 1, (size_t)K);
        cut_lowest(kept, mean, NULL, &(cut_range){0, units[layer], mask_local_count(units, c->L, K, rule, layer)},
                   mean + K);
        mask_groups_spread(keep, c, layer, kept);
    }
    free(units);
    free(kept);
    free(mean);
    free(own);
    return bad;
}

int mask_make_kind(mask *m, const model_config *c, unit_kind kind, const ops *o, const float *score,
                   const mask_rule *rule) {
    const int U = model_all_units(c, kind);
    if (!mask_rule_prunes(rule, kind)) return 0;
    if (by_groups(rule, kind)) return make_groups(m, c, o, score, rule);
    const long bad =
        mask_select_on(mask_keep(m, kind), o, score, model_units_left(c, kind), c->L, U, least_of(kind, U), rule);
    return check_place(o, score, bad, U, unit_names_of_one[kind]);
}

int mask_make_layer(mask *m, const model_config *c, unit_kind kind, int layer, const ops *o, const float *score,
                    const mask_rule *rule) {
    const int U = model_all_units(c, kind);
    ASSERT(rule->scope == SCOPE_LOCAL);
    if (!mask_rule_prunes(rule, kind) || layer < rule->dense_layers) return 0;
    uint8_t *keep = mask_keep(m, kind) + (size_t)layer * (size_t)U;
    if (by_groups(rule, kind)) return make_groups_of_layer(keep, c, layer, o, score, rule);
    const long k = mask_local_count(model_units_left(c, kind), c->L, U, rule, layer);
    const long bad = mask_select_layer(keep, o, score, model_units(c, layer, kind), k);
    return check_place(o, score, bad, U, unit_names_of_one[kind]) ? err_prefix("predicted for layer %d", layer) : 0;
}

bool mask_fits_device(const mask_rule *rule) {
    const bool compares = rule->scope == SCOPE_GLOBAL && !rule->standardise;
    return (rule->scope == SCOPE_LOCAL || compares) && !mask_rule_groups(rule);
}

void mask_put_kind(const mask *m, const mask *whole, int32_t *bad, const model_config *c, unit_kind kind, const ops *o,
                   const float *score, const mask_rule *rule) {
    if (mask_rule_prunes(rule, kind))
        mask_select_there(mask_keep(m, kind), mask_keep(whole, kind), bad, o, score, model_units_left(c, kind), c->L,
                          model_all_units(c, kind), rule);
}

void mask_put_layer(const mask *m, int32_t *bad, const model_config *c, unit_kind kind, int layer, const ops *o,
                    const float *score, const mask_rule *rule) {
    const int U = model_all_units(c, kind), n = model_units(c, layer, kind);
    if (!mask_rule_prunes(rule, kind) || layer < rule->dense_layers || !n) return;
    const long k = mask_local_count(model_units_left(c, kind), c->L, U, rule, layer);
    o->use(0);
    o->cut_here(mask_keep(m, kind) + (size_t)layer * (size_t)U, bad, score, NULL, &(cut_range){0, n, k}, 1);
}

int mask_make_on(mask *m, const model_config *c, const ops *o, const float *score, const mask_rule *rule) {
    mask_fill(m, c);
    return mask_make_kind(m, c, UNIT_HEADS, o, score, rule)
               ? -1
               : mask_make_kind(m, c, UNIT_NEURONS, o, score + units_of(c, UNIT_HEADS), rule);
}

void mask_random_scores(double *heads, double *neurons, const model_config *c, uint64_t seed) {
    for (size_t i = 0; i < units_of(c, UNIT_HEADS); i++)
        heads[i] = (double)(rng_hash(seed, UNIT_HEADS, i) >> 11) * 0x1p-53;
    for (size_t i = 0; i < units_of(c, UNIT_NEURONS); i++)
        neurons[i] = (double)(rng_hash(seed, UNIT_NEURONS, i) >> 11) * 0x1p-53;
}

void mask_pruned(const mask *m, const model_config *c, long pruned[UNIT_KINDS]) {
    pruned[UNIT_HEADS] = pruned[UNIT_NEURONS] = 0;
    for (unit_kind kind = UNIT_HEADS; m && kind < UNIT_KINDS; kind++) {
        const uint8_t *keep = mask_keep(m, kind);
        for (int l = 0; l < c->L; l++, keep += model_all_units(c, kind))
            for (int u = 0; u < model_units(c, l, kind); u++) pruned[kind] += !keep[u];
    }
}

void mask_units(const model_config *c, long units[UNIT_KINDS]) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        units[kind] = 0;
        for (int l = 0; l < c->L; l++) units[kind] += model_units(c, l, kind);
    }
}

void mask_effective(const mask *m, const model_config *c, double *heads, double *neurons) {
    long pruned[UNIT_KINDS], units[UNIT_KINDS];
    mask_pruned(m, c, pruned);
    mask_units(c, units);
    *heads = units[UNIT_HEADS] ? (double)pruned[UNIT_HEADS] / (double)units[UNIT_HEADS] : 0;
    *neurons = units[UNIT_NEURONS] ? (double)pruned[UNIT_NEURONS] / (double)units[UNIT_NEURONS] : 0;
}

void mask_hash(char out[33], const mask *m, const model_config *c) {
    hash_bytes(out, m->heads, units_of(c, UNIT_HEADS) + units_of(c, UNIT_NEURONS));
}

// ---------------------------------------------------------------- mask files
static int read_kind(uint8_t *out, hid_t file, const char *path, const char *name, int L, int U) {
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return err_set("%s: no dataset %s; a mask file has /mask/heads and /mask/neurons", path, name);
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    hsize_t dim[2] = {0, 0};
    int bad = 0;
    if (H5Sget_simple_extent_ndims(space) != 2 || H5Sget_simple_extent_dims(space, dim, NULL) != 2 ||
        dim[0] != (hsize_t)L || dim[1] != (hsize_t)U)
        bad = err_set("%s: %s has not the shape [%d, %d] of this model", path, name, L, U);
    else if (H5Tget_class(type) != H5T_INTEGER || H5Tget_size(type) != 1 || H5Tget_sign(type) != H5T_SGN_NONE)
        bad = err_set("%s: %s is not of type uint8", path, name);
    else if (H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        bad =
            store_filter_fail(path, name, set) ? -1 : err_set("%s: %s cannot be read; the file is damaged", path, name);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    for (long i = 0; !bad && i < (long)L * U; i++)
        if (out[i] > 1)
            bad = err_set("%s: %s: layer %ld unit %ld is %d; 0 and 1 are allowed", path, name, i / U, i % U, out[i]);
    return bad;
}

int mask_read(mask *m, const model_config *c, const char *path) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);  // one line of our own instead of the library's stack
    if (!file_exists(path)) return err_set("%s: no such file; --mask file:PATH names a mask file", path);
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set("%s: %s; --mask file:PATH names a mask file", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) return err_set("%s: not an HDF5 file, or it cannot be opened", path);
    int bad = read_kind(m->heads, file, path, "/mask/heads", c->L, c->H);
    if (!bad) bad = read_kind(m->neurons, file, path, "/mask/neurons", c->L, c->F);
    H5Fclose(file);
    clear_absent(m->heads, c, UNIT_HEADS);
    clear_absent(m->neurons, c, UNIT_NEURONS);
    return bad;
}

int mask_write(const mask *m, const model_config *c, const char *model_hash, const char *path) {
    store *s = store_create_as(path, "opt unit mask 1");
    if (!s) return -1;
    const long heads[2] = {c->L, c->H}, neurons[2] = {c->L, c->F};
    if (store_put_text(s, "/", "model_hash", model_hash) || store_put_bytes(s, "/mask/heads", 2, heads, m->heads) ||
        store_put_bytes(s, "/mask/neurons", 2, neurons, m->neurons)) {
        store_close(s);
        return -1;
    }
    return store_commit(s);
}
