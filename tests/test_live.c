// test_live - vector kernels and operations on live units against plain double loops: every set of kernels, type of
// weights and length.
#include "opt_fixture.h"
#include "cpu_vec.h"

static const char *const set_names[] = {"avx512", "avx2", "plain"};
enum { SETS = 3, TYPES = 3, GUARD = 12345 };

// ---------------------------------------------------------------- random numbers in any type
static void *random_type(rng *r, dtype type, size_t n, float **exact) {
    float *f = xmalloc(n * sizeof *f + 4);
    uint16_t *h = xmalloc(n * sizeof *h + 4);
    for (size_t i = 0; i < n; i++) {
        f[i] = (float)rng_normal(r);
        if (type == DT_F16) {
            const _Float16 x = (_Float16)f[i];
            memcpy(&h[i], &x, 2);
            f[i] = (float)x;
        } else if (type == DT_BF16) {
            uint32_t u;
            memcpy(&u, &f[i], 4);
            h[i] = (uint16_t)(u >> 16);
            u &= 0xffff0000u;
            memcpy(&f[i], &u, 4);
        }
    }
    *exact = f;
    if (type != DT_F32) return h;
    free(h);
    float *copy = xmalloc(n * sizeof *copy + 4);
    memcpy(copy, f, n * sizeof *copy);
    return copy;
}

// ---------------------------------------------------------------- kernels
// Sums for several rows of y are those for each alone, to the bit.
static void check_sums(const vec_kernels *k, dtype type, const void *const *data, rng *r, int n) {
    enum { ROWS = 5, Y = 2 * VEC_ROWS - 1 };
    float *y = normal_floats(r, (size_t)(Y * n)), *alone = xmalloc(sizeof *y * (size_t)(Y * n)), c[Y][ROWS], *to[Y];
    const float *share[Y];
    memcpy(alone, y, sizeof *y * (size_t)(Y * n));
    for (int i = 0; i < Y; i++) {
        for (int j = 0; j < ROWS; j++) c[i][j] = (float)(i - j) / 7;
        to[i] = y + i * n, share[i] = c[i];
    }
    k->sum[type](to, share, Y, &(vec_rows){data, ROWS, true}, n);
    for (int i = 0; i < Y; i++)
        k->sum[type](&(float *){alone + i * n}, &share[i], 1, &(vec_rows){data, ROWS, false}, n);
    assert_same_bits("sums for several rows and for each", y, alone, sizeof *y * (size_t)(Y * n));
    free(y), free(alone);
}

static void kernels(void **state) {
    (void)state;
    rng r = rng_make(1);
    int found = 0;
    for (int set = 0; set < SETS; set++) {
        const vec_kernels *k = vec_find(set_names[set]);
        if (!k) continue;
        found++;
        for (int type = 0; type < TYPES; type++)
            for (int n = 0, step = 1; n <= 5197; n += step) {
                if (n >= 70) step = n < 301 ? 33 : 4896;
                enum { ROWS = 5 };
                const size_t width = dtype_bytes((dtype)type);
                float *exact, sums[ROWS * VEC_ROWS + 1], alone, c[ROWS];
                char *w = random_type(&r, (dtype)type, ROWS * (size_t)n, &exact);
                float *x = normal_floats(&r, VEC_ROWS * (size_t)n), *y = normal_floats(&r, (size_t)n + 1),
                      *before = xmalloc(((size_t)n + 1) * sizeof *before);
                memcpy(before, y, ((size_t)n + 1) * sizeof *y);
                const float *rows[VEC_ROWS];
                const void *data[ROWS + VEC_AHEAD];
                for (int i = 0; i < ROWS; i++) {
                    data[i] = w + (size_t)(ROWS - 1 - i) * (size_t)n * width;  // in no order of memory
                    c[i] = (float)rng_normal(&r);
                }
                for (int i = 0; i < VEC_AHEAD; i++) data[ROWS + i] = data[i % ROWS];
                for (int R = 1; R <= VEC_ROWS; R++) {
                    for (int i = 0; i < R; i++) rows[i] = x + i * n;
                    sums[ROWS * R] = GUARD;
                    k->dot[type](sums, &(vec_rows){data, ROWS, R % 2}, rows, R, n);
                    assert_true(sums[ROWS * R] == GUARD);
                    for (int i = 0; i < ROWS * R; i++) {
                        double want = 0, scale = 0;
                        const float *xs = rows[i % R], *ws = exact + (ROWS - 1 - i / R) * n;
                        for (int j = 0; j < n; j++)
                            want += (double)xs[j] * (double)ws[j], scale += fabs((double)xs[j] * (double)ws[j]);
                        assert_sum("dot", sums[i], want, scale);
                        k->dot[type](&alone, &(vec_rows){&data[i / R], 1, false}, &xs, 1, n);
                        assert_same_bits("dot of one row and of many", &alone, &sums[i], sizeof alone);
                    }
                }
                k->sum[type](&y, &(const float *){c}, 1, &(vec_rows){data, ROWS, true}, n);
                for (int j = 0; j < n; j++) {
                    double want = (double)before[j], scale = fabs(want);
                    for (int i = 0; i < ROWS; i++)
                        want += (double)c[i] * (double)exact[(ROWS - 1 - i) * n + j],
                            scale += fabs((double)c[i] * (double)exact[(ROWS - 1 - i) * n + j]);
                    assert_sum("sum", y[j], want, scale);
                }
                assert_true(y[n] == before[n]);
                for (int i = 0; i < ROWS; i++)
                    k->sum[type](&before, &(const float *){&c[i]}, 1, &(vec_rows){&data[i], 1, false}, n);
                assert_same_bits("sums of rows one by one and together", before, y, (size_t)n * sizeof *y);
                check_sums(k, type, data, &r, n);
                free(w), free(exact), free(x), free(y), free(before);
            }
    }
    assert_true(found >= 1 && vec_find("plain"));
    assert_null(vec_find("sse9"));
}

// ---------------------------------------------------------------- operations
typedef struct {
    int units, D, E, seqs;
    int32_t unit[64];
    uint8_t wants[64 * 8];
    live_units list;
} random_list;

// Some units; with wants, each wanted by some sequences, at least one.
static void random_live(random_list *u, rng *r, int units, int D, int seqs, bool wants, int density) {
    *u = (random_list){.units = units, .D = D, .seqs = seqs};
    int n = 0;
    for (int k = 0; k < units; k++) {
        if ((int)rng_below(r, 100) >= density) continue;
        u->unit[n] = k;
        for (int i = 0; i < seqs; i++) u->wants[n * seqs + i] = rng_below(r, 2) != 0;
        u->wants[n * seqs + (int)rng_below(r, (uint64_t)seqs)] = 1;
        n++;
    }
    u->list = (live_units){.unit = u->unit, .n = n, .seqs = seqs, .wants = wants ? u->wants : NULL};
}

static bool runs(const random_list *u, int unit, int seq) {
    for (int k = 0; k < u->list.n; k++)
        if (u->unit[k] == unit) return !u->list.wants || u->wants[k * u->seqs + seq];
    return false;
}

static void live_maps(void **state) {
    (void)state;
    rng r = rng_make(2);
    const ops *o = ops_cpu();
    static const int shapes[][3] = {{9, 7, 35}, {40, 1, 35}, {61, 1, 70}, {6, 16, 96}, {1, 3, 5}};  // units, D, E
    for (int round = 0; round < 180; round++) {
        const int *shape = shapes[round % 5], units = shape[0], D = shape[1], E = shape[2], n = 1 + round % 4,
                  type = round / 5 % 3;
        span s[4];
        int rows = 0;
        for (int i = 0; i < n; i++) {
            s[i] = (span){rows, round % 7 == 6 ? 3 + (int)rng_below(&r, 30) : (int)rng_below(&r, 4)};
            rows += s[i].n;
        }
        random_list u;
        random_live(&u, &r, units, D, n, round % 2, (int[]){50, 100, 0, 15}[round / 15 % 4]);
        const size_t U = (size_t)(units * D);
        float *exact, *bias_exact, *bt_exact;
        void *data = random_type(&r, (dtype)type, U * (size_t)E, &exact),
             *bias = random_type(&r, (dtype)type, U, &bias_exact),
             *bt = random_type(&r, (dtype)type, (size_t)E, &bt_exact);
        const weight w = {data, (dtype)type, (int)U, E, NULL, NULL, false},
                     b = {bias, (dtype)type, (int)U, 1, NULL, NULL, false},
                     b_t = {bt, (dtype)type, E, 1, NULL, NULL, false};
        float *x = normal_floats(&r, (size_t)rows * (size_t)E), *y = xmalloc(((size_t)rows * U + 1) * sizeof *y);
        for (size_t i = 0; i <= (size_t)rows * U; i++) y[i] = GUARD;
        const bool relu = round % 3 == 0, biased = round % 4 != 1;
        o->live_linear(y, x, &w, biased ? &b : NULL, relu, D, &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t j = 0; j < U; j++) {
                    const float got = y[(size_t)t * U + j];
                    if (!runs(&u, (int)j / D, i)) {
                        if (got != GUARD)
                            fail_msg("live_linear wrote unit %zu of sequence %d, which does not run it", j / (size_t)D,
                                     i);
                        continue;
                    }
                    double want = biased ? (double)bias_exact[j] : 0, scale = fabs(want);
                    for (int e = 0; e < E; e++) {
                        const double term =
                            (double)x[(size_t)t * (size_t)E + (size_t)e] * (double)exact[j * (size_t)E + (size_t)e];
                        want += term;
                        scale += fabs(term);
                    }
                    assert_sum("live_linear", got, relu && want < 0 ? 0 : want, scale);
                }
        assert_true(y[(size_t)rows * U] == GUARD);
        // transposed: the columns of units that do not run hold what must not be read
        float *z = xmalloc(((size_t)rows * (size_t)E + 1) * sizeof *z),
              *z0 = normal_floats(&r, (size_t)rows * (size_t)E);
        memcpy(z, z0, (size_t)rows * (size_t)E * sizeof *z);
        z[(size_t)rows * (size_t)E] = GUARD;
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t j = 0; j < U; j++)
                    y[(size_t)t * U + j] = runs(&u, (int)j / D, i) ? (float)rng_normal(&r) : NAN;
        o->live_linear_t(z, y, &w, biased ? &b_t : NULL, D, &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t e = 0; e < (size_t)E; e++) {
                    double want = (double)z0[(size_t)t * (size_t)E + e] + (biased ? (double)bt_exact[e] : 0),
                           scale = fabs(want) + 1;
                    for (size_t j = 0; j < U; j++) {
                        if (!runs(&u, (int)j / D, i)) continue;
                        const double term = (double)y[(size_t)t * U + j] * (double)exact[j * (size_t)E + e];
                        want += term;
                        scale += fabs(term);
                    }
                    assert_sum("live_linear_t", z[(size_t)t * (size_t)E + e], want, scale);
                }
        assert_true(z[(size_t)rows * (size_t)E] == GUARD);
        free(data), free(bias), free(bt), free(exact), free(bias_exact), free(bt_exact), free(x), free(y), free(z),
            free(z0);
    }
}

static void live_heads(void **state) {
    (void)state;
    rng r = rng_make(3);
    const ops *o = ops_cpu();
    for (int round = 0; round < 80; round++) {
        // K heads of keys and values: as many as query heads, fewer, or (reads) a query head reads any of them
        const int H = 1 + round % 6, D = 1 + (int)rng_below(&r, 20), E = H * D, n = 1 + round % 3,
                  K = round / 6 % 2 && H % 2 == 0 ? H / 2 : H, W = K * D;
        int32_t reads[6];
        for (int h = 0; h < H; h++) reads[h] = round % 7 == 6 ? (int32_t)rng_below(&r, (uint64_t)K) : h / (H / K);
        const attn_heads heads = {H, K, D, round % 7 == 6 ? reads : NULL};
        attn_seq s[3];
        float *past[3][2];
        uint8_t *has[3];
        int rows = 0;
        for (int i = 0; i < n; i++) {
            const int past_n = (int)rng_below(&r, 12),
                      length = round % 5 == 4 ? 9 + (int)rng_below(&r, 70) : 1 + (int)rng_below(&r, 5);
            for (int k = 0; k < 2; k++) past[i][k] = normal_floats(&r, (size_t)past_n * (size_t)W);
            has[i] = xcalloc((size_t)past_n * (size_t)K + 1, 1);
            for (int k = 0; k < past_n * K; k++)  // what is not there must not be read
                if (!(has[i][k] = round % 3 != 0 || rng_below(&r, 2)))
                    for (int d = 0; d < D; d++) past[i][0][k * D + d] = past[i][1][k * D + d] = NAN;
            s[i] = (attn_seq){.s = {rows, length},
                              .from = (int)rng_below(&r, (uint64_t)length),
                              .past_k = past[i][0],
                              .past_v = past[i][1],
                              .past = past_n,
                              .past_has = round % 3 == 0 ? has[i] : NULL};
            rows += length;
        }
        random_list u;
        random_live(&u, &r, H, D, n, round % 2, 60);
        const size_t floats = (size_t)rows * (size_t)E;
        float *q = normal_floats(&r, floats), *k = normal_floats(&r, floats), *v = normal_floats(&r, floats),
              *out = xmalloc((floats + 1) * sizeof *out);
        for (size_t i = 0; i <= floats; i++) out[i] = GUARD;
        o->live_attention(out, q, k, v, &heads, round % 4 == 3 ? NULL : &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = 0; t < s[i].s.n; t++)
                for (int h = 0; h < H; h++) {
                    const float *got = out + (size_t)((s[i].s.row + t) * E + h * D),
                                *qt = q + (size_t)((s[i].s.row + t) * E + h * D);
                    if (t < s[i].from) continue;
                    if (round % 4 != 3 && !runs(&u, h, i)) {
                        for (int d = 0; d < D; d++) assert_true(got[d] == GUARD);
                        continue;
                    }
                    double want[20] = {0}, sum = 0;
                    for (int j = 0; j <= s[i].past + t; j++) {
                        const bool old = j < s[i].past;
                        if (old && s[i].past_has && !has[i][j * K + reads[h]]) continue;
                        const int at = (old ? j : s[i].s.row + j - s[i].past) * W + reads[h] * D;
                        const float *kj = (old ? past[i][0] : k) + at, *vj = (old ? past[i][1] : v) + at;
                        double dot = 0;
                        for (int d = 0; d < D; d++) dot += (double)qt[d] * (double)kj[d];
                        const double p = exp(dot / sqrt(D));
                        sum += p;
                        for (int d = 0; d < D; d++) want[d] += p * (double)vj[d];
                    }
                    for (int d = 0; d < D; d++) assert_sum("live_attention", got[d], want[d] / sum, 1);
                }
        assert_true(out[floats] == GUARD);
        free(q), free(k), free(v), free(out);
        for (int i = 0; i < n; i++) free(past[i][0]), free(past[i][1]), free(has[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kernels), cmocka_unit_test(live_maps),
                                       cmocka_unit_test(live_heads)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
