// test_sparse - the sparse inference core: vector kernels and operations on live units against plain double loops; passes over live units
// against the same masks by zeroing, which test_opt holds against PyTorch; K/V policies; same bits whatever the batch and the threads.
#include "opt_fixture.h"
#include "ops.h"
#include "ops_cpu.h"
#include "ops_cpu_vec.h"
#include <omp.h>

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

static float *random_floats(rng *r, size_t n) {
    float *f = xmalloc(n * sizeof *f + 4);
    for (size_t i = 0; i < n; i++) f[i] = (float)rng_normal(r);
    return f;
}

// |got - want| <= 1e-5 * scale, scale the size of the terms that were added.
static void assert_sum(const char *what, float got, double want, double scale) {
    if (!(fabs((double)got - want) <= 1e-5 * fmax(fabs(want), scale))) fail_msg("%s: %.9g, want %.9g", what, (double)got, want);
}

// ---------------------------------------------------------------- kernels
static void kernels(void **state) {
    (void)state;
    rng r = rng_make(1);
    int found = 0;
    for (int set = 0; set < SETS; set++) {
        const vec_kernels *k = vec_find(set_names[set]);
        if (!k) continue;
        found++;
        for (int type = 0; type < TYPES; type++)
            for (int n = 0; n <= 5197; n += n < 70 ? 1 : n < 301 ? 33 : 4896) {
                enum { ROWS = 5 };
                const size_t width = dtype_bytes((dtype)type);
                float *exact, sums[ROWS * VEC_ROWS + 1], alone, c[ROWS];
                char *w = random_type(&r, (dtype)type, ROWS * (size_t)n, &exact);
                float *x = random_floats(&r, VEC_ROWS * (size_t)n), *y = random_floats(&r, (size_t)n + 1), *before = xmalloc(((size_t)n + 1) * sizeof *before);
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
                        for (int j = 0; j < n; j++) want += (double)xs[j] * (double)ws[j], scale += fabs((double)xs[j] * (double)ws[j]);
                        assert_sum("dot", sums[i], want, scale);
                        k->dot[type](&alone, &(vec_rows){&data[i / R], 1, false}, &xs, 1, n);
                        assert_same_bits("dot of one row and of many", &alone, &sums[i], sizeof alone);
                    }
                }
                k->sum[type](y, c, &(vec_rows){data, ROWS, true}, n);
                for (int j = 0; j < n; j++) {
                    double want = (double)before[j], scale = fabs(want);
                    for (int i = 0; i < ROWS; i++) want += (double)c[i] * (double)exact[(ROWS - 1 - i) * n + j], scale += fabs((double)c[i] * (double)exact[(ROWS - 1 - i) * n + j]);
                    assert_sum("sum", y[j], want, scale);
                }
                assert_true(y[n] == before[n]);
                for (int i = 0; i < ROWS; i++) k->sum[type](before, &c[i], &(vec_rows){&data[i], 1, false}, n);
                assert_same_bits("sums of rows one by one and together", before, y, (size_t)n * sizeof *y);
                free(w), free(exact), free(x), free(y), free(before);
            }
    }
    assert_true(found >= 1 && vec_find("plain"));
    assert_null(vec_find("sse9"));
}

// ---------------------------------------------------------------- operations
typedef struct { int units, D, E, seqs; int32_t unit[64]; uint8_t wants[64 * 8]; live_units list; } random_list;

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
        const int *shape = shapes[round % 5], units = shape[0], D = shape[1], E = shape[2], n = 1 + round % 4, type = round / 5 % 3;
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
        void *data = random_type(&r, (dtype)type, U * (size_t)E, &exact), *bias = random_type(&r, (dtype)type, U, &bias_exact), *bt = random_type(&r, (dtype)type, (size_t)E, &bt_exact);
        const weight w = {data, (dtype)type, (int)U, E, NULL, NULL}, b = {bias, (dtype)type, (int)U, 1, NULL, NULL}, b_t = {bt, (dtype)type, E, 1, NULL, NULL};
        float *x = random_floats(&r, (size_t)rows * (size_t)E), *y = xmalloc(((size_t)rows * U + 1) * sizeof *y);
        for (size_t i = 0; i <= (size_t)rows * U; i++) y[i] = GUARD;
        const bool relu = round % 3 == 0, biased = round % 4 != 1;
        o->live_linear(y, x, &w, biased ? &b : NULL, relu, D, &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t j = 0; j < U; j++) {
                    const float got = y[(size_t)t * U + j];
                    if (!runs(&u, (int)j / D, i)) {
                        if (got != GUARD) fail_msg("live_linear wrote unit %zu of sequence %d, which does not run it", j / (size_t)D, i);
                        continue;
                    }
                    double want = biased ? (double)bias_exact[j] : 0, scale = fabs(want);
                    for (int e = 0; e < E; e++) {
                        const double term = (double)x[(size_t)t * (size_t)E + (size_t)e] * (double)exact[j * (size_t)E + (size_t)e];
                        want += term;
                        scale += fabs(term);
                    }
                    assert_sum("live_linear", got, relu && want < 0 ? 0 : want, scale);
                }
        assert_true(y[(size_t)rows * U] == GUARD);
        // transposed: the columns of units that do not run hold what must not be read
        float *z = xmalloc(((size_t)rows * (size_t)E + 1) * sizeof *z), *z0 = random_floats(&r, (size_t)rows * (size_t)E);
        memcpy(z, z0, (size_t)rows * (size_t)E * sizeof *z);
        z[(size_t)rows * (size_t)E] = GUARD;
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t j = 0; j < U; j++) y[(size_t)t * U + j] = runs(&u, (int)j / D, i) ? (float)rng_normal(&r) : NAN;
        o->live_linear_t(z, y, &w, biased ? &b_t : NULL, D, &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = s[i].row; t < s[i].row + s[i].n; t++)
                for (size_t e = 0; e < (size_t)E; e++) {
                    double want = (double)z0[(size_t)t * (size_t)E + e] + (biased ? (double)bt_exact[e] : 0), scale = fabs(want) + 1;
                    for (size_t j = 0; j < U; j++) {
                        if (!runs(&u, (int)j / D, i)) continue;
                        const double term = (double)y[(size_t)t * U + j] * (double)exact[j * (size_t)E + e];
                        want += term;
                        scale += fabs(term);
                    }
                    assert_sum("live_linear_t", z[(size_t)t * (size_t)E + e], want, scale);
                }
        assert_true(z[(size_t)rows * (size_t)E] == GUARD);
        free(data), free(bias), free(bt), free(exact), free(bias_exact), free(bt_exact), free(x), free(y), free(z), free(z0);
    }
}

static void live_heads(void **state) {
    (void)state;
    rng r = rng_make(3);
    const ops *o = ops_cpu();
    for (int round = 0; round < 80; round++) {
        const int H = 1 + round % 6, D = 1 + (int)rng_below(&r, 20), E = H * D, n = 1 + round % 3;
        attn_seq s[3];
        float *past[3][2];
        uint8_t *has[3];
        int rows = 0;
        for (int i = 0; i < n; i++) {
            const int past_n = (int)rng_below(&r, 12), length = round % 5 == 4 ? 9 + (int)rng_below(&r, 70) : 1 + (int)rng_below(&r, 5);
            for (int k = 0; k < 2; k++) past[i][k] = random_floats(&r, (size_t)past_n * (size_t)E);
            has[i] = xcalloc((size_t)past_n * (size_t)H + 1, 1);
            for (int k = 0; k < past_n * H; k++)  // what is not there must not be read
                if (!(has[i][k] = round % 3 != 0 || rng_below(&r, 2)))
                    for (int d = 0; d < D; d++) past[i][0][k * D + d] = past[i][1][k * D + d] = NAN;
            s[i] = (attn_seq){.s = {rows, length}, .from = (int)rng_below(&r, (uint64_t)length), .past_k = past[i][0], .past_v = past[i][1], .past = past_n,
                              .past_has = round % 3 == 0 ? has[i] : NULL};
            rows += length;
        }
        random_list u;
        random_live(&u, &r, H, D, n, round % 2, 60);
        const size_t floats = (size_t)rows * (size_t)E;
        float *q = random_floats(&r, floats), *k = random_floats(&r, floats), *v = random_floats(&r, floats), *out = xmalloc((floats + 1) * sizeof *out);
        for (size_t i = 0; i <= floats; i++) out[i] = GUARD;
        o->live_attention(out, q, k, v, E, D, round % 4 == 3 ? NULL : &u.list, s, n);
        for (int i = 0; i < n; i++)
            for (int t = 0; t < s[i].s.n; t++)
                for (int h = 0; h < H; h++) {
                    const float *got = out + (size_t)((s[i].s.row + t) * E + h * D), *qt = q + (size_t)((s[i].s.row + t) * E + h * D);
                    if (t < s[i].from) continue;
                    if (round % 4 != 3 && !runs(&u, h, i)) {
                        for (int d = 0; d < D; d++) assert_true(got[d] == GUARD);
                        continue;
                    }
                    double want[20] = {0}, sum = 0;
                    for (int j = 0; j <= s[i].past + t; j++) {
                        const bool old = j < s[i].past;
                        if (old && s[i].past_has && !has[i][j * H + h]) continue;
                        const float *kj = old ? past[i][0] + j * E + h * D : k + (s[i].s.row + j - s[i].past) * E + h * D;
                        const float *vj = old ? past[i][1] + j * E + h * D : v + (s[i].s.row + j - s[i].past) * E + h * D;
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

// ---------------------------------------------------------------- models
static const opt_config odd = {.L = 3, .H = 5, .D = 7, .E = 35, .F = 53, .P = 35, .V = 61, .positions = 90, .pre_ln = true, .final_ln = true, .bias = true};
static const opt_config even = {.L = 3, .H = 4, .D = 16, .E = 64, .F = 192, .P = 64, .V = 80, .positions = 90, .pre_ln = true, .final_ln = true, .bias = true};
static const opt_config post = {.L = 2, .H = 3, .D = 8, .E = 24, .F = 40, .P = 16, .V = 50, .positions = 90, .bias = true};
static const opt_config bare = {.L = 2, .H = 2, .D = 32, .E = 64, .F = 70, .P = 64, .V = 50, .positions = 90, .pre_ln = true};
static const opt_config *const configs[] = {&odd, &even, &post, &bare};
enum { CONFIGS = 4 };

typedef struct { opt m; tensor *t; int n; } typed_opt;

static void typed_make(typed_opt *o, const opt_config *c, dtype type, uint64_t seed) {
    o->t = random_weights(c, seed, &o->n);
    for (int i = 0; i < o->n && type != DT_F32; i++) {
        const size_t count = tensor_bytes(&o->t[i]) / 4;
        const float *f = o->t[i].data;
        uint16_t *h = xmalloc(count * sizeof *h);
        for (size_t k = 0; k < count; k++) {
            const _Float16 x = (_Float16)f[k];
            uint32_t u;
            memcpy(&u, &f[k], 4);
            h[k] = (uint16_t)(u >> 16);
            if (type == DT_F16) memcpy(&h[k], &x, 2);
        }
        free((void *)f);
        o->t[i].data = h;
        o->t[i].type = type;
    }
    if (opt_from_tensors(&o->m, c, o->t, o->n) != 0) fail_msg("%s", err_get());
}

static void typed_free(typed_opt *o) {
    opt_free(&o->m);
    weights_free(o->t, o->n);
}

typedef enum { MASK_RANDOM, MASK_ALL, MASK_NONE, MASK_ONE_HEAD, MASK_EMPTY_LAYER, MASKS } mask_kind;

static mask random_mask(const opt_config *c, mask_kind kind, rng *r) {
    const int heads = c->L * c->H, neurons = c->L * c->F;
    uint8_t *m = xmalloc((size_t)(heads + neurons));
    for (int k = 0; k < heads + neurons; k++) {
        const int layer = k < heads ? k / c->H : (k - heads) / c->F;
        m[k] = kind == MASK_ALL ? 1 : kind == MASK_NONE ? 0 : kind == MASK_ONE_HEAD && k < heads ? k % c->H == layer % c->H : rng_below(r, 2) != 0;
        if (kind == MASK_EMPTY_LAYER && layer == 1) m[k] = 0;
    }
    return (mask){m, m + heads};
}

static void random_tokens(int32_t *tokens, int n, const opt_config *c, rng *r) {
    for (int t = 0; t < n; t++) tokens[t] = (int32_t)rng_below(r, (uint64_t)c->V);
}

static void assert_close(const char *what, const float *got, const float *want, int n) {
    double w[200];
    for (int i = 0; i < n; i++) w[i] = (double)want[i];
    assert_agree(what, got, w, (size_t)n, 1e-5);
}

// Logits at the end of a pass of n tokens under a mask.
static void logits_of(const opt *m, const int32_t *tokens, int n, const mask *units, unsigned flags, float *out) {
    opt_run *r = opt_run_new(m, n, 1, flags);
    opt_forward(r, &(opt_seq){.tokens = tokens, .n = n, .mask = units, .targets_from = n - 1, .last_target = OPT_NO_TARGET}, 1);
    opt_logits(r, 0, out);
    opt_run_free(r);
}

static void by_zero_agrees(void **state) {
    (void)state;
    rng r = rng_make(4);
    int32_t tokens[70];
    float got[100], want[100];
    for (int set = 0; set < SETS; set++) {
        const vec_kernels *k = vec_find(set_names[set]);
        if (!k) continue;
        vec_use(k);
        for (int round = 0; round < CONFIGS * TYPES; round++) {
            const opt_config *c = configs[round % CONFIGS];
            typed_opt o;
            typed_make(&o, c, (dtype)(round / CONFIGS), (uint64_t)(100 + round));
            assert_true(opt_sparse_prepare(&o.m) == opt_sparse_bytes(&o.m) && opt_sparse_bytes(&o.m) > 0);
            for (int kind = 0; kind < MASKS; kind++) {
                mask m = random_mask(c, (mask_kind)kind, &r);
                for (int length = 1; length <= 64; length = length < 4 ? length + 1 : 4 * length) {
                    random_tokens(tokens, length, c, &r);
                    logits_of(&o.m, tokens, length, &m, OPT_MASK_BY_ZERO, want);
                    logits_of(&o.m, tokens, length, &m, OPT_FORWARD, got);
                    assert_close("live units against the mask by zeroing", got, want, c->V);
                    if (kind == MASK_ALL) {
                        logits_of(&o.m, tokens, length, NULL, OPT_FORWARD, want);
                        assert_close("all units live", got, want, c->V);
                    }
                }
                free(m.heads);
            }
            typed_free(&o);
        }
    }
    vec_use(NULL);
}

// Token by token behind a cache against the full pass by zeroing, under one mask from the first token on.
static void decode_agrees(void **state) {
    (void)state;
    rng r = rng_make(5);
    enum { T = 24 };
    int32_t tokens[T];
    float got[100], want[100];
    for (int round = 0; round < CONFIGS * TYPES * 3; round++) {
        const opt_config *c = configs[round % CONFIGS];
        const kv_policy kv = (kv_policy)(round / CONFIGS % 3);
        typed_opt o;
        typed_make(&o, c, (dtype)(round / CONFIGS / 3), (uint64_t)(200 + round));
        opt_sparse_prepare(&o.m);
        mask m = random_mask(c, round % 5 == 4 ? MASK_EMPTY_LAYER : MASK_RANDOM, &r);
        random_tokens(tokens, T, c, &r);
        opt_cache *cache = opt_cache_new_kv(&o.m, T, kv);
        opt_run *run = opt_run_new(&o.m, 5, 1, OPT_FORWARD);
        for (int at = 0, take; at < T; at += take) {
            take = at == 0 ? 5 : 1 + (at == 9);
            opt_forward(run, &(opt_seq){.tokens = tokens + at, .n = take, .prefix = cache, .append = cache, .mask = &m, .targets_from = take - 1, .last_target = OPT_NO_TARGET}, 1);
            opt_logits(run, 0, got);
            logits_of(&o.m, tokens, at + take, &m, OPT_MASK_BY_ZERO, want);
            assert_close("decoded logits", got, want, c->V);
        }
        opt_run_free(run);
        opt_cache_free(cache);
        free(m.heads);
        typed_free(&o);
    }
}

// Masks that change at every step: repair gives what computing all K and V gives; skip does not, once a head came back.
static void policies(void **state) {
    (void)state;
    rng r = rng_make(6);
    enum { T = 40, PROMPT = 11 };
    int32_t tokens[T];
    float got[2][100], want[100];
    for (int round = 0; round < 2 * CONFIGS; round++) {
        const opt_config *c = configs[round % CONFIGS];
        typed_opt o;
        typed_make(&o, c, (dtype)(round % TYPES), (uint64_t)(300 + round));
        opt_sparse_prepare(&o.m);
        random_tokens(tokens, T, c, &r);
        opt_cache *cache[3];
        for (int kv = 0; kv < 3; kv++) cache[kv] = opt_cache_new_kv(&o.m, T, (kv_policy)kv);
        opt_run *run = opt_run_new(&o.m, PROMPT, 1, OPT_FORWARD);
        mask m = random_mask(c, MASK_RANDOM, &r);
        bool differs = false;
        for (int at = 0, take; at < T; at += take) {
            take = at == 0 ? PROMPT : 1;
            if (at % 3 == 2 || round >= CONFIGS) {
                mask other = random_mask(c, at % 7 == 6 ? MASK_ALL : MASK_RANDOM, &r);
                memcpy(m.heads, other.heads, (size_t)(c->L * (c->H + c->F)));
                free(other.heads);
            }
            for (int kv = 0; kv < 3; kv++) {
                opt_seq s = {.tokens = tokens + at, .n = take, .prefix = cache[kv], .append = cache[kv], .mask = at == 25 ? NULL : &m, .mask_from = PROMPT - 1, .targets_from = take - 1, .last_target = OPT_NO_TARGET};
                opt_forward(run, &s, 1);
                opt_logits(run, 0, kv == 0 ? want : got[kv - 1]);
            }
            assert_close("repaired K and V", got[0], want, c->V);
            for (int v = 0; v < c->V; v++) differs |= fabsf(got[1][v] - want[v]) > 1e-3f;
        }
        assert_true(differs);
        for (int l = 0; l < c->L; l++)  // where repair says that K and V are there, they are those of the other cache
            for (int t = 0; t < T; t++)
                for (int h = 0; h < c->H; h++) {
                    const size_t at = ((size_t)l * T + (size_t)t) * (size_t)c->E + (size_t)(h * c->D);
                    if (!cache[KV_REPAIR]->has[((size_t)l * T + (size_t)t) * (size_t)c->H + (size_t)h]) continue;
                    assert_close("K", cache[KV_REPAIR]->k[0] + at, cache[KV_COMPUTE]->k[0] + at, c->D);
                    assert_close("V", cache[KV_REPAIR]->v[0] + at, cache[KV_COMPUTE]->v[0] + at, c->D);
                }
        for (int kv = 0; kv < 3; kv++) opt_cache_free(cache[kv]);
        opt_run_free(run);
        free(m.heads);
        typed_free(&o);
    }
}

// ---------------------------------------------------------------- batches, threads
enum { BATCH = 6, STEPS = 7 };

// Decodes a batch of sequences with masks of their own (one of them shared by two, one sequence dense) and lays out all logits [step, seq, V].
static float *decode_batch(const opt *m, int first, int n, unsigned flags, uint64_t seed) {
    const opt_config *c = &m->c;
    rng r = rng_make(seed);
    int32_t tokens[BATCH][STEPS + 9];
    mask masks[BATCH];
    for (int i = 0; i < BATCH; i++) {
        random_tokens(tokens[i], STEPS + 9, c, &r);
        masks[i] = random_mask(c, i == 4 ? MASK_EMPTY_LAYER : MASK_RANDOM, &r);
    }
    opt_cache *cache[BATCH];
    for (int i = 0; i < BATCH; i++) cache[i] = opt_cache_new_kv(m, STEPS + 9, (kv_policy)(i % 3));
    opt_run *run = opt_run_new(m, 9 * BATCH, BATCH, flags);
    float *out = xcalloc((size_t)(STEPS + 1) * BATCH * (size_t)c->V, sizeof *out), *all = xmalloc((size_t)BATCH * (size_t)c->V * sizeof *all);
    for (int step = 0; step <= STEPS; step++) {
        opt_seq s[BATCH];
        for (int k = 0; k < n; k++) {
            const int i = first + k, length = step ? 1 : 2 + i, at = step ? 2 + i + step - 1 : 0;
            s[k] = (opt_seq){.tokens = tokens[i] + at, .n = length, .prefix = cache[i], .append = cache[i], .mask = i == 3 ? NULL : &masks[i == 5 ? 0 : i],
                             .targets_from = length - 1, .last_target = OPT_NO_TARGET};
        }
        opt_forward(run, s, n);
        opt_last_logits(run, all);
        for (int k = 0; k < n; k++) {
            float *to = out + ((size_t)step * BATCH + (size_t)(first + k)) * (size_t)c->V;
            opt_logits(run, k, to);
            assert_same_bits("all last logits", to, all + (size_t)k * (size_t)c->V, (size_t)c->V * sizeof *to);
        }
    }
    for (int i = 0; i < BATCH; i++) opt_cache_free(cache[i]), free(masks[i].heads);
    opt_run_free(run);
    free(all);
    return out;
}

static void batches(void **state) {
    (void)state;
    const int threads = omp_get_max_threads();
    for (int round = 0; round < CONFIGS; round++) {
        const opt_config *c = configs[round];
        typed_opt o;
        typed_make(&o, c, (dtype)(round % TYPES), (uint64_t)(400 + round));
        opt_sparse_prepare(&o.m);
        const size_t n = (size_t)(STEPS + 1) * BATCH * (size_t)c->V;
        float *whole = decode_batch(&o.m, 0, BATCH, OPT_FORWARD, 7), *own = decode_batch(&o.m, 0, BATCH, OPT_OWN_LISTS, 7), *sum = xcalloc(n, sizeof *sum);
        assert_same_bits("union and own lists", whole, own, n * sizeof *whole);
        for (int i = 0; i < BATCH; i++) {
            float *one = decode_batch(&o.m, i, 1, OPT_FORWARD, 7);
            for (size_t k = 0; k < n; k++) sum[k] += one[k];
            free(one);
        }
        for (size_t k = 0; k < n; k++) whole[k] += 0.0f;
        assert_same_bits("sequences one by one", whole, sum, n * sizeof *whole);
        for (int t = 1; t <= 3; t++) {
            omp_set_num_threads(t);
            float *again = decode_batch(&o.m, 0, BATCH, OPT_FORWARD, 7);
            for (size_t k = 0; k < n; k++) again[k] += 0.0f;
            assert_same_bits("threads", whole, again, n * sizeof *whole);
            free(again);
        }
        omp_set_num_threads(threads);
        free(whole), free(own), free(sum);
        typed_free(&o);
    }
}

// ---------------------------------------------------------------- a watch writes the mask while the pass runs
typedef struct { mask m; const mask *wanted; const opt_config *c; double seen; } chooser;

static void choose(void *self, opt_state state, int layer, const float *x) {
    chooser *k = self;
    const opt_config *c = k->c;
    for (int e = 0; e < c->E; e++) k->seen += (double)x[e] * (1 + layer);
    if (state == OPT_RESIDUAL) memcpy(k->m.heads + layer * c->H, k->wanted->heads + layer * c->H, (size_t)c->H);
    if (state == OPT_MID) memcpy(k->m.neurons + layer * c->F, k->wanted->neurons + layer * c->F, (size_t)c->F);
}

static void watched(void **state) {
    (void)state;
    rng r = rng_make(8);
    for (int round = 0; round < CONFIGS; round++) {
        const opt_config *c = configs[round];
        typed_opt o;
        typed_make(&o, c, DT_F32, (uint64_t)(500 + round));
        opt_sparse_prepare(&o.m);
        int32_t tokens[4];
        random_tokens(tokens, 4, c, &r);
        mask wanted = random_mask(c, MASK_RANDOM, &r);
        float got[2][100], want[100];
        double seen[2];
        for (int zero = 0; zero < 2; zero++) {
            chooser k = {.m = random_mask(c, MASK_NONE, &r), .wanted = &wanted, .c = c};
            const opt_watch w = {.row = 3, .states = 1 << OPT_RESIDUAL | 1 << OPT_MID | 1 << OPT_HEAD_OUTPUT, .see = choose, .self = &k};
            opt_run *run = opt_run_new(&o.m, 4, 1, zero ? OPT_MASK_BY_ZERO : OPT_FORWARD);
            opt_forward(run, &(opt_seq){.tokens = tokens, .n = 4, .mask = &k.m, .watch = &w, .targets_from = 3, .last_target = OPT_NO_TARGET}, 1);
            opt_logits(run, 0, got[zero]);
            seen[zero] = k.seen;
            opt_run_free(run);
            free(k.m.heads);
        }
        logits_of(&o.m, tokens, 4, &wanted, OPT_MASK_BY_ZERO, want);
        assert_close("mask written in the pass", got[0], want, c->V);
        assert_close("mask written in the pass, by zeroing", got[1], want, c->V);
        assert_true(fabs(seen[0] - seen[1]) <= 1e-4 * fmax(1, fabs(seen[1])));
        free(wanted.heads);
        typed_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels), cmocka_unit_test(live_maps), cmocka_unit_test(live_heads), cmocka_unit_test(by_zero_agrees), cmocka_unit_test(decode_agrees),
        cmocka_unit_test(policies), cmocka_unit_test(batches), cmocka_unit_test(watched)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
