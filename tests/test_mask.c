// test_mask - selection of units against closed cases and against properties that a wrong selection would break; mask
// files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mask.h"
#include "ops.h"

static mask_rule rule_of(mask_scope scope, long percent, int dense, mode_kind mode) {
    return (mask_rule){
        .scope = scope, .units = UNITS_BOTH, .sparsity = 1000 * percent, .dense_layers = dense, .mode = mode};
}

static int count(const uint8_t *keep, int n) {
    int k = 0;
    for (int i = 0; i < n; i++) k += keep[i];
    return k;
}

static void check(const uint8_t *keep, const char *want) {
    for (int i = 0, j = 0; want[j]; j++)
        if (want[j] != ' ' && keep[i++] != want[j] - '0')
            fail_msg("unit %d is %d in place of %s", i - 1, keep[i - 1], want);
}

// Three layers of four units, worked out by hand.
static const double hand[12] = {9, 1, 8, 2, 0.5, 0.1, 7, 3, 6, 5, 4, 3};

static void closed_cases(void **state) {
    (void)state;
    uint8_t keep[12];
    struct {
        mask_scope scope;
        long percent;
        int dense;
        mode_kind mode;
        int m;
        const char *want;
    } t[] = {
        {SCOPE_LOCAL, 50, 1, MODE_SOUND, 1, "1111 0011 1100"},
        // 1.96 each, floor(3.92) = 3 in all: one layer loses a second one
        {SCOPE_LOCAL, 49, 1, MODE_SOUND, 1, "1111 0011 1110"},
        {SCOPE_LOCAL, 49, 1, MODE_COMPAT, 1, "1111 1011 1110"},  // published: the floor of every layer
        {SCOPE_LOCAL, 50, 0, MODE_SOUND, 1, "1010 0011 1100"},
        {SCOPE_GLOBAL, 50, 1, MODE_SOUND, 1, "1111 0010 1110"},  // k = 4 of 0.5 0.1 7 3 6 5 4 3: 0.1 0.5 and both 3s
        {SCOPE_GLOBAL, 37, 1, MODE_SOUND, 1, "1111 0011 1111"},  // k = floor(2.96) = 2
        {SCOPE_GLOBAL, 38, 1, MODE_SOUND, 1, "1111 0010 1111"},  // k = 3: the 3 of the lower layer goes
        {SCOPE_GLOBAL, 100, 1, MODE_SOUND, 1, "1111 0000 0000"},
        {SCOPE_GLOBAL, 100, 3, MODE_SOUND, 1, "1111 1111 1111"},
        {SCOPE_GLOBAL, 50, 0, MODE_COMPAT, 1, "1010 0010 1110"},  // k = 6 of 12: 0.1 0.5 1 2 and both 3s
        {SCOPE_HYBRID, 75, 1, MODE_SOUND, 1, "1111 0010 1000"},   // keep 2, one of each layer
        {SCOPE_HYBRID, 75, 1, MODE_SOUND, 4, "1111 0010 1000"},   // m is lowered to keep / layers = 1
        {SCOPE_HYBRID, 88, 1, MODE_SOUND, 1, "1111 0010 0000"},   // keep 1 < layers: m = 0, the rest by rank
        {SCOPE_HYBRID, 100, 1, MODE_SOUND, 1, "1111 0000 0000"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        mask_rule r = rule_of(t[i].scope, t[i].percent, t[i].dense, t[i].mode);
        mask_select(keep, hand, NULL, 3, 4, t[i].m, &r);
        check(keep, t[i].want);
    }
    mask_rule r = rule_of(SCOPE_LOCAL, 49, 1, MODE_SOUND);
    r.counts = COUNTS_FLOOR;
    mask_select(keep, hand, NULL, 3, 4, 1, &r);
    check(keep, "1111 1011 1110");  // floor(1.96) = 1 of each
}

// The published hybrid on a case where each of its three oddities shows: 3 layers of 4, m = 2, 50 %.
static void hybrid_compat(void **state) {
    (void)state;
    // Lowest six: layer 1 whole (0.1..0.4) and 1, 1.5 of layer 2. Layer 1 has 0 running < 2: Z = {1}; two more go
    // globally: the 2 and 3 of layer 2, which now has none and is not repaired; layer 1 gets its top two back. Five
    // units run in place of six, before layer 0 runs again as a whole.
    const double score[12] = {9, 8, 7, 6, 0.1, 0.2, 0.3, 0.4, 1, 1.5, 2, 3};
    uint8_t keep[12];
    mask_rule r = rule_of(SCOPE_HYBRID, 50, 0, MODE_COMPAT);
    mask_select(keep, score, NULL, 3, 4, 2, &r);
    check(keep, "1111 0011 0000");
    const double score2[12] = {3, 2, 1.5, 1, 0.1, 0.2, 0.3, 9, 8, 7, 6, 5};  // Z = {0, 1}: layer 0 has one, layer 1 one
    mask_select(keep, score2, NULL, 3, 4, 2, &r);
    // Six lowest: 0.1 0.2 0.3 1 1.5 2; running 3 | 9 | 8 7 6 5; Z = {0, 1}, four more go: 3 5 6 7; repaired: 3 2 | 0.3
    // 9.
    check(keep, "1100 0011 1000");
    r.dense_layers = 1;
    mask_select(keep, score2, NULL, 3, 4, 2, &r);
    check(keep, "1111 0011 1000");
}

// A slow second opinion: unit i is pruned before unit j if it is lower, or equal and of lower index.
static bool before(const double *s, int i, int j) { return s[i] < s[j] || (s[i] == s[j] && i < j); }

static void properties(void **state) {
    (void)state;
    rng r = rng_make(5);
    for (int round = 0; round < 3000; round++) {
        int L = 1 + (int)rng_below(&r, 6), U = 1 + (int)rng_below(&r, 9), dense = (int)rng_below(&r, (uint64_t)L + 1),
            n = L * U;
        // every other round is full of ties
        int m = 1 + (int)rng_below(&r, (uint64_t)U), levels = round % 2 ? 3 : 1000;
        long p = (long)rng_below(&r, 101);
        double s[64];
        uint8_t keep[64];
        for (int i = 0; i < n; i++) s[i] = (double)rng_below(&r, (uint64_t)levels);
        int prunable = (L - dense) * U, first = dense * U;
        for (int scope = 0; scope < 3; scope++) {
            mask_rule rule = rule_of((mask_scope)scope, p, dense, MODE_SOUND);
            mask_select(keep, s, NULL, L, U, m, &rule);
            assert_int_equal(count(keep, first), first);
            int want = (int)(p * prunable / 100);  // of every scope
            assert_int_equal(n - count(keep, n), want);
            int kept = prunable - want, each = dense == L ? 0 : kept / (L - dense), floor_m = m < each ? m : each;
            for (int l = dense; l < L; l++) {
                if (scope == SCOPE_LOCAL) assert_in_range(U - count(keep + l * U, U), p * U / 100, p * U / 100 + 1);
                if (scope == SCOPE_HYBRID) assert_true(count(keep + l * U, U) >= floor_m);
            }
            for (int i = first; i < n; i++)
                for (int j = first; j < n; j++) {
                    bool same = i / U == j / U;
                    if (keep[i] || !keep[j] || before(s, i, j)) continue;
                    // i went although j should have gone before it: allowed across layers only, locally, or where j is
                    // reserved.
                    if (same || scope == SCOPE_GLOBAL) fail_msg("scope %d: unit %d went before %d", scope, i, j);
                    int above = 0;
                    for (int u = j / U * U; u < (j / U + 1) * U; u++) above += u != j && before(s, j, u);
                    if (scope == SCOPE_HYBRID) assert_true(above < floor_m);
                }
        }
        mask_rule rule = rule_of(SCOPE_GLOBAL, p, 1, MODE_COMPAT);
        mask_select(keep, s, NULL, L, U, m, &rule);
        for (int i = 0; i < n; i++) {
            int rank = 0;
            for (int j = 0; j < n; j++) rank += j != i && before(s, j, i);
            assert_int_equal(keep[i], i < U || rank >= p * n / 100);
        }
    }
}

// Against full sorting, on sizes where buckets work: smooth, skewed over hundreds of octaves, tied, signed, constant,
// almost constant and nearly infinite scores.
typedef struct {
    double score;
    int unit;
} ranked;
static int pruned_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->unit - y->unit;
}

static double any_score(rng *r, int shape) {
    const double u = rng_uniform(r);
    switch (shape) {
    case 0: return u;
    case 1: return exp(1400 * (u - 0.5));
    case 2: return (double)rng_below(r, 5) * (rng_below(r, 2) ? 1 : -1);
    case 3: return rng_normal(r);
    case 4: return 0.25;
    case 5: return u < 0.999 ? 1 + 0x1p-52 * (double)rng_below(r, 3) : 1e300;
    case 6: return (u - 0.5) * 2 * 1.7e308;
    default: return u < 0.5 ? 0.0 : -0.0;
    }
}

static void as_sorted(void **state) {
    (void)state;
    rng r = rng_make(11);
    for (int round = 0; round < 400; round++) {
        const int L = 1 + (int)rng_below(&r, 5), U = 1 + (int)rng_below(&r, round % 4 ? 700 : 40), n = L * U,
                  shape = round % 8;
        const long p = (long)rng_below(&r, 100001);
        double *s = xmalloc((size_t)n * sizeof *s);
        uint8_t *keep = xmalloc((size_t)n), *want = xmalloc((size_t)n);
        ranked *order = xmalloc((size_t)n * sizeof *order);
        for (int i = 0; i < n; i++) s[i] = any_score(&r, shape);
        for (int scope = SCOPE_LOCAL; scope <= SCOPE_GLOBAL; scope++) {
            const mask_rule rule = {
                .scope = (mask_scope)scope, .units = UNITS_HEADS, .sparsity = p, .counts = COUNTS_FLOOR};
            const int size = scope == SCOPE_LOCAL ? U : n;
            memset(want, 1, (size_t)n);
            for (int first = 0; first < n; first += size) {
                for (int i = 0; i < size; i++) order[i] = (ranked){s[first + i], first + i};
                qsort(order, (size_t)size, sizeof *order, pruned_first);
                for (long i = 0; i < p * size / 100000; i++) want[order[i].unit] = 0;
            }
            mask_select(keep, s, NULL, L, U, 1, &rule);
            if (memcmp(keep, want, (size_t)n) != 0)
                fail_msg("round %d, scope %d: [%d, %d] at %ld of shape %d", round, scope, L, U, p, shape);
        }
        void *blocks[] = {s, keep, want, order};
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    }
}

static model_config config(int L, int H, int F) { return (model_config){.L = L, .H = H, .F = F}; }

static void both_kinds(void **state) {
    (void)state;
    model_config c = config(3, 4, 64);
    double heads[12], neurons[192], eh, en;
    mask_random_scores(heads, neurons, &c, 1);
    mask m, dense;
    mask_alloc(&m, &c);
    mask_alloc(&dense, &c);
    mask_rule r = {.scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1};
    assert_int_equal(mask_make(&m, &c, heads, neurons, &r), 0);
    mask_effective(&m, &c, &eh, &en);
    assert_float_equal(eh, 4.0 / 12, 1e-15);
    assert_float_equal(en, 64.0 / 192, 1e-15);
    r.units = UNITS_HEADS;
    assert_int_equal(mask_make(&m, &c, heads, NULL, &r), 0);
    mask_effective(&m, &c, &eh, &en);
    assert_float_equal(en, 0, 0);
    // the published FFN mask has no effect
    r = (mask_rule){
        .scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 50000, .dense_layers = 1, .mode = MODE_COMPAT};
    assert_int_equal(mask_make(&m, &c, heads, neurons, &r), 0);
    assert_memory_equal(m.neurons, dense.neurons, 192);
    // keeps 3 of 128; m = F / 32 = 2 would be 4: lowered to 1
    r = (mask_rule){.scope = SCOPE_HYBRID, .units = UNITS_NEURONS, .sparsity = 98000, .dense_layers = 1};
    assert_int_equal(mask_make(&m, &c, NULL, neurons, &r), 0);
    assert_int_equal(count(m.neurons + 64, 128), 3);
    assert_true(count(m.neurons + 64, 64) >= 1 && count(m.neurons + 128, 64) >= 1);
    mask_effective(NULL, &c, &eh, &en);
    assert_float_equal(eh + en, 0, 0);
    heads[5] = NAN;
    r = (mask_rule){.scope = SCOPE_GLOBAL, .units = UNITS_HEADS, .sparsity = 50000, .dense_layers = 1};
    assert_int_equal(mask_make(&m, &c, heads, NULL, &r), -1);
    assert_string_equal(err_get(), "the score of layer 1 head 1 is nan; units cannot be ranked by it");
    mask_free(&m);
    mask_free(&m);
    mask_free(&dense);
}

static void random_masks(void **state) {
    (void)state;
    model_config c = config(5, 16, 32);
    double h[80], n[160], h2[80], n2[160];
    mask_random_scores(h, n, &c, 7);
    mask_random_scores(h2, n2, &c, 7);
    assert_memory_equal(h, h2, sizeof h);
    mask_random_scores(h2, n2, &c, 8);
    assert_memory_not_equal(h, h2, sizeof h);
    assert_memory_not_equal(n, h, sizeof h);
    // 80 uniform draws: the mean is within five standard errors of a half.
    double sum = 0;
    for (int i = 0; i < 80; i++) sum += h[i];
    assert_float_equal(sum / 80, 0.5, 5 * sqrt(1.0 / 12 / 80));
    mask a, b;
    mask_alloc(&a, &c);
    mask_alloc(&b, &c);
    mask_rule r = {.scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = 30000, .dense_layers = 1};
    mask_make(&a, &c, h, n, &r);
    r.sparsity = 60000;
    mask_make(&b, &c, h, n, &r);
    for (int i = 0; i < 80; i++) assert_true(a.heads[i] >= b.heads[i]);
    mask_free(&a);
    mask_free(&b);
}

static void sparsities(void **state) {
    (void)state;
    int n;
    long *p = mask_parse_sparsities("0,10,12.5,.125,100", &n);
    assert_non_null(p);
    assert_int_equal(n, 5);
    const long want[] = {0, 10000, 12500, 125, 100000};
    assert_memory_equal(p, want, sizeof want);
    free(p);
    const char *bad[] = {"", "101", "-1", "100.001", "10%", "ten", "1.2345", ".", "1e1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if ((p = mask_parse_sparsities(bad[i], &n))) fail_msg("sparsity '%s' was taken", bad[i]);
    // floor(p n / 100) in whole numbers: 0.1 % of 1000 is one unit, 29 % of 100 is 29 (0.29 * 100 = 28.999.. in
    // binary).
    assert_int_equal(mask_count(100, 1000), 1);
    assert_int_equal(mask_count(29000, 100), 29);
    assert_int_equal(mask_count(50000, 3), 1);
}

static void put(hid_t file, const char *name, hid_t type, int rank, hsize_t a, hsize_t b, const void *data) {
    hsize_t dim[2] = {a, b};
    hid_t space = H5Screate_simple(rank, dim, NULL), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(file, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
}

static void mask_files(void **state) {
    (void)state;
    char path[] = "/tmp/test_mask_XXXXXX";
    close(mkstemp(path));
    model_config c = config(2, 3, 4);
    const uint8_t heads[6] = {1, 0, 1, 0, 0, 1}, neurons[8] = {0, 1, 1, 0, 1, 1, 1, 0}, two[6] = {1, 0, 1, 2, 0, 1};
    const float floats[6] = {1, 0, 1, 0, 0, 1};
    mask m;
    mask_alloc(&m, &c);
    struct {
        hid_t type;
        hsize_t L;
        const void *data;
        bool with_neurons;
        const char *says;
    } t[] = {
        {H5T_NATIVE_UINT8, 2, heads, true, NULL},
        {H5T_NATIVE_UINT8, 2, heads, false, "no dataset /mask/neurons"},
        {H5T_NATIVE_UINT8, 1, heads, true, "/mask/heads has not the shape [2, 3]"},
        {H5T_NATIVE_UINT8, 2, two, true, "/mask/heads: layer 1 unit 0 is 2"},
        {H5T_NATIVE_FLOAT, 2, floats, true, "/mask/heads is not of type uint8"},
        {H5T_NATIVE_INT8, 2, heads, true, "/mask/heads is not of type uint8"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        put(file, "/mask/heads", t[i].type, 2, t[i].L, 3, t[i].data);
        if (t[i].with_neurons) put(file, "/mask/neurons", H5T_NATIVE_UINT8, 2, 2, 4, neurons);
        H5Fclose(file);
        if (!t[i].says) {
            assert_int_equal(mask_read(&m, &c, path), 0);
            assert_memory_equal(m.heads, heads, 6);
            assert_memory_equal(m.neurons, neurons, 8);
        } else {
            assert_int_equal(mask_read(&m, &c, path), -1);
            if (!strstr(err_get(), t[i].says)) fail_msg("\"%s\" lacks \"%s\"", err_get(), t[i].says);
        }
    }
    FILE *f = fopen(path, "w");
    fputs("not HDF5", f);
    fclose(f);
    assert_int_equal(mask_read(&m, &c, path), -1);
    unlink(path);
    assert_int_equal(mask_read(&m, &c, path), -1);
    mask_free(&m);
}

// In a compacted model the units that are left are ranked and counted; the others never run, whatever their score
// (NaN).
static void masks_of_what_is_left(void **state) {
    (void)state;
    enum { L = 5, H = 6, F = 20 };
    int heads[L] = {6, 0, 3, 1, 6}, neurons[L] = {20, 7, 0, 13, 1};
    const model_config c = {.L = L, .H = H, .F = F, .heads = heads, .neurons = neurons};
    rng r = rng_make(11);
    mask m;
    mask_alloc(&m, &c);
    double score[2][L * F], effective[2];
    for (int round = 0; round < 400; round++) {
        const mask_rule rule = {.scope = (mask_scope)(round % 3),
                                .units = UNITS_BOTH,
                                .sparsity = (long)rng_below(&r, 100001),
                                .dense_layers = round / 3 % 3,
                                .mode = round % 7 == 6 ? MODE_COMPAT : MODE_SOUND};
        for (int kind = 0; kind < 2; kind++)
            for (int l = 0; l < L; l++)
                for (int u = 0; u < (kind ? F : H); u++)
                    score[kind][l * (kind ? F : H) + u] =
                        u < (kind ? neurons : heads)[l] ? (double)rng_below(&r, 12) : NAN;
        if (mask_make(&m, &c, score[0], score[1], &rule) != 0) fail_msg("%s", err_get());
        mask_effective(&m, &c, &effective[0], &effective[1]);
        for (int kind = 0; kind < 2; kind++) {
            const int U = kind ? F : H, *units = kind ? neurons : heads;
            const uint8_t *keep = kind ? m.neurons : m.heads;
            int all = 0, off = 0, prunable = 0;
            for (int l = 0; l < L; l++) {
                int off_here = 0;
                for (int u = 0; u < U; u++)
                    if (u >= units[l])
                        assert_int_equal(keep[l * U + u], 0);
                    else
                        off_here += !keep[l * U + u];
                all += units[l];
                off += off_here;
                if (l < rule.dense_layers)
                    assert_int_equal(off_here, 0);
                else
                    prunable += units[l];
                if (rule.mode == MODE_SOUND && rule.scope == SCOPE_LOCAL && l >= rule.dense_layers)
                    assert_in_range(off_here, mask_count(rule.sparsity, units[l]),
                                    mask_count(rule.sparsity, units[l]) + (units[l] > 0));
            }
            assert_true(fabs(effective[kind] - (double)off / all) < 1e-12);
            if (rule.mode == MODE_COMPAT) continue;
            assert_int_equal(off, mask_count(rule.sparsity, prunable));
            // no unit runs that scores below one that does not (hybrid: of layers beyond their reserve; local: of its
            // layer)
            for (int a = 0; a < L * U && rule.scope != SCOPE_HYBRID; a++)
                for (int b = 0; b < L * U; b++) {
                    if (a / U < rule.dense_layers || b / U < rule.dense_layers || a % U >= units[a / U] ||
                        b % U >= units[b / U])
                        continue;
                    if (rule.scope == SCOPE_LOCAL && a / U != b / U) continue;
                    if (keep[a] && !keep[b])
                        assert_true(score[kind][a] > score[kind][b] || (score[kind][a] == score[kind][b] && a > b));
                }
            for (int l = rule.dense_layers; l < L && rule.scope == SCOPE_HYBRID; l++) {
                int on = 0;
                for (int u = 0; u < units[l]; u++) on += keep[l * U + u];
                if ((prunable - off) / (L - rule.dense_layers) >= 1) assert_true(on >= (units[l] > 0));
            }
        }
    }
    mask_free(&m);
}

// ---------------------------------------------------------------- counts of a local scope
// The rule said in another way: as long as some are missing, the layer that has lost least of the part of a unit its
// share exceeds the floor by gives one; the order among equal layers is that of a binary fraction 0.b0b1b2 of the index
// b2b1b0 (van der Corput).
static double corput(int i) {
    double x = 0, half = 0.5;
    for (; i; i /= 2, half /= 2) x += half * (i % 2);
    return x;
}

static void counts_by_hand(long *want, const int *units, int L, int dense, long sparsity) {
    long all = 0, given = 0;
    for (int l = 0; l < L; l++) {
        want[l] = l < dense ? 0 : sparsity * units[l] / 100000;
        all += l < dense ? 0 : units[l];
        given += want[l];
    }
    bool extra[64] = {false};
    for (; given < sparsity * all / 100000; given++) {
        int best = -1;
        for (int l = dense; l < L; l++) {
            const long rest = sparsity * units[l] % 100000, most = best < 0 ? -1 : sparsity * units[best] % 100000;
            if (!extra[l] && (rest > most || (rest == most && corput(l - dense) < corput(best - dense)))) best = l;
        }
        extra[best] = true;
        want[best]++;
    }
}

static void counts_of_layers(long *count, const int *units, int L, int U, const mask_rule *rule) {
    for (int l = 0; l < L; l++) count[l] = mask_local_count(units, L, U, rule, l);
}

static void local_counts(void **state) {
    (void)state;
    long count[40], want[40], last[40];
    int units[40];
    // 30 % of 5 prunable layers of 8 heads: 12 of 40
    mask_rule rule = {.scope = SCOPE_LOCAL, .sparsity = 30000, .dense_layers = 1};
    counts_of_layers(count, NULL, 6, 8, &rule);
    const long stated[6] = {0, 3, 2, 2, 2, 3};
    for (int l = 0; l < 6; l++) assert_int_equal(count[l], stated[l]);
    rule.counts = COUNTS_FLOOR;
    counts_of_layers(count, NULL, 6, 8, &rule);
    for (int l = 1; l < 6; l++) assert_int_equal(count[l], 2);
    rng r = rng_make(3);
    for (int round = 0; round < 300; round++) {
        const int L = 1 + (int)rng_below(&r, 39), U = 1 + (int)rng_below(&r, 40),
                  dense = (int)rng_below(&r, (uint64_t)L + 1);
        const bool equal = round % 2;  // else the layers of a compacted model differ
        long prunable = 0;
        for (int l = 0; l < L; l++) {
            units[l] = equal ? U : (int)rng_below(&r, (uint64_t)U + 1);
            prunable += l < dense ? 0 : units[l];
            last[l] = 0;
        }
        for (long sparsity = 0; sparsity <= 100000; sparsity += 250) {
            long all = 0;
            rule = (mask_rule){.scope = SCOPE_LOCAL, .sparsity = sparsity, .dense_layers = dense};
            counts_of_layers(count, equal ? NULL : units, L, U, &rule);
            counts_by_hand(want, units, L, dense, sparsity);
            for (int l = 0; l < L; l++) {
                assert_int_equal(count[l], want[l]);
                assert_in_range(count[l], 0, units[l]);
                if (equal) assert_true(count[l] >= last[l]);  // a sparser mask prunes a superset
                last[l] = count[l];
                all += count[l];
            }
            assert_int_equal(all, sparsity * prunable / 100000);
        }
    }
}

// One layer at a time, as a predictor that looks ahead makes it: the mask of all layers at once.
static void layer_by_layer(void **state) {
    (void)state;
    const model_config c = {.L = 6, .H = 8, .F = 32};
    const ops *o = ops_open("cpu");
    float heads[6 * 8], neurons[6 * 32];
    rng r = rng_make(8);
    for (int i = 0; i < 6 * 8; i++) heads[i] = (float)rng_below(&r, 20);
    for (int i = 0; i < 6 * 32; i++) neurons[i] = (float)rng_below(&r, 50);
    mask whole, parts;
    mask_alloc(&whole, &c);
    mask_alloc(&parts, &c);
    for (long sparsity = 0; sparsity <= 100000; sparsity += 1250)
        for (mode_kind mode = MODE_SOUND; mode < MODES; mode++) {
            const mask_rule rule = {
                .scope = SCOPE_LOCAL, .units = UNITS_BOTH, .sparsity = sparsity, .dense_layers = 1, .mode = mode};
            mask_fill(&whole, &c);
            mask_fill(&parts, &c);
            assert_int_equal(mask_make_kind(&whole, &c, UNIT_HEADS, o, heads, &rule), 0);
            assert_int_equal(mask_make_kind(&whole, &c, UNIT_NEURONS, o, neurons, &rule), 0);
            for (int l = 0; l < 6; l++) {
                assert_int_equal(mask_make_layer(&parts, &c, UNIT_HEADS, l, o, heads + 8 * l, &rule), 0);
                assert_int_equal(mask_make_layer(&parts, &c, UNIT_NEURONS, l, o, neurons + 32 * l, &rule), 0);
            }
            assert_memory_equal(whole.heads, parts.heads, 6 * 8);
            assert_memory_equal(whole.neurons, parts.neurons, 6 * 32);
        }
    mask_free(&parts);
    mask_free(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_cases), cmocka_unit_test(hybrid_compat),  cmocka_unit_test(properties),
        cmocka_unit_test(as_sorted),    cmocka_unit_test(both_kinds),     cmocka_unit_test(random_masks),
        cmocka_unit_test(sparsities),   cmocka_unit_test(mask_files),     cmocka_unit_test(masks_of_what_is_left),
        cmocka_unit_test(local_counts), cmocka_unit_test(layer_by_layer),
    };
    return cmocka_run_group_tests_name("mask", tests, NULL, NULL);
}
