// test_blocks - weights in blocks: our own against those of llama.cpp's gguf package (golden/make_gguf.py), kernels of
// every instruction set against the widened numbers (which test_gguf holds against the package), operations and models
// against the same with widened weights, damaged scales.
#include "opt_fixture.h"
#include "blocks_fixture.h"
#include "compact.h"
#include "convert.h"
#include "cpu_vec.h"
#include "gguf.h"
#include "quantise.h"
#include "refusal.h"
#include <omp.h>
#include <unistd.h>

static const char *const set_names[] = {"avx512", "avx2", "plain"};
static const dtype types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q4_K};
enum { SETS = 3, TYPES = 4, OURS = 2 };  // the first two are made by us

#define GGUF_GOLDEN "tests/golden/gguf/"

// ---------------------------------------------------------------- quantisation
static const gguf_tensor *tensor_of(const gguf *g, const char *name) {
    for (int i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return &g->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void quantised_as_the_package_does(void **state) {
    (void)state;
    size_t size;
    char *bytes = file_read(GGUF_GOLDEN "quantised.gguf", &size);
    gguf g;
    assert_int_equal(gguf_parse(&g, (const uint8_t *)bytes, size, "file"), 0);
    const gguf_tensor *x = tensor_of(&g, "x");
    const size_t n = (size_t)(x->dim[0] * x->dim[1]);
    float *numbers = xmalloc(n * sizeof *numbers);
    memcpy(numbers, x->data, n * sizeof *numbers);
    for (int k = 0; k < OURS; k++) {
        const gguf_tensor *want = tensor_of(&g, k ? "x.q4_0" : "x.q8_0");
        assert_int_equal(gguf_dtype(want->type), types[k]);
        const size_t n_bytes = dtype_size(types[k], n);
        uint8_t *made = xmalloc(n_bytes);
        dtype_narrow(made, types[k], numbers, n);
        for (size_t i = 0; i < n_bytes; i++)
            if (made[i] != want->data[i])
                fail_msg("%s: byte %zu of block %zu is %d, not %d", want->name, i % (n_bytes * 32 / n),
                         i / (n_bytes * 32 / n), made[i], want->data[i]);
        free(made);
    }
    free(numbers);
    gguf_free(&g);
    free(bytes);
}

// A number comes back within half a step, but for what rounding the scale to fp16 adds; in Q4_0 within a step at the
// end of the range that has no code of its own.
static void round_trip(void **state) {
    (void)state;
    rng r = rng_make(3);
    enum { N = 32 };
    for (int round = 0; round < 400; round++) {
        float x[N], back[N], most = 0;
        uint8_t block[64];
        for (int i = 0; i < N; i++) {
            x[i] = (float)(rng_normal(&r) * pow(10, round % 7 - 3));
            most = fmaxf(most, fabsf(x[i]));
        }
        for (int k = 0; k < OURS; k++) {
            const float step = most / (k ? 8 : 127), half = step / 2,
                        scale_error = fmaxf(0x1p-11f * most, 0x1p-25f * (k ? 8 : 127));
            quantise(block, types[k], x, N);
            gguf_widen(back, block, gguf_type_of(types[k]), N);
            for (int i = 0; i < N; i++) {
                const float room = k && fabsf(x[i]) > 7 * step ? step : half;
                if (!(fabsf(back[i] - x[i]) <= room * 1.0001f + scale_error))
                    fail_msg("%s: %g comes back as %g, the step is %g", dtype_name(types[k]), (double)x[i],
                             (double)back[i], (double)step);
            }
        }
    }
}

// ---------------------------------------------------------------- kernels
enum { ROWS = 5 };
typedef struct {
    const vec_kernels *k;
    dtype type;
    int n;
    const void *row[ROWS + VEC_AHEAD];
    const float *wide[ROWS], *x[VEC_ROWS], *c;
} kernel_case;

static void check_widen(const kernel_case *c, rng *r) {
    float *to = xmalloc((size_t)c->n * sizeof *to + 4);
    const size_t from = 32 * rng_below(r, (uint64_t)c->n / 32), n = 32 * rng_below(r, ((size_t)c->n - from) / 32 + 1);
    c->k->widen[c->type](to, c->row[1], 0, (size_t)c->n);
    assert_same_bits("widened", to, c->wide[1], (size_t)c->n * sizeof *to);
    c->k->widen[c->type](to, c->row[2], from, n);
    assert_same_bits("widened from within a row", to, c->wide[2] + from, n * sizeof *to);
    free(to);
}

static void check_dot(const kernel_case *c) {
    float out[ROWS * VEC_ROWS + 1], alone;
    for (int R = 1; R <= VEC_ROWS; R++) {
        out[ROWS * R] = 12345;
        c->k->dot[c->type](out, &(vec_rows){c->row, ROWS, R % 2}, c->x, R, c->n);
        assert_true(out[ROWS * R] == 12345);
        for (int i = 0; i < ROWS * R; i++) {
            double want = 0, scale = 0;
            for (int j = 0; j < c->n; j++) {
                const double term = (double)c->x[i % R][j] * (double)c->wide[i / R][j];
                want += term, scale += fabs(term);
            }
            assert_sum("dot", out[i], want, scale);
            c->k->dot[c->type](&alone, &(vec_rows){&c->row[i / R], 1, false}, &c->x[i % R], 1, c->n);
            assert_same_bits("dot of one row and of many", &alone, &out[i], sizeof alone);
        }
    }
}

static void check_sum(const kernel_case *c, rng *r) {
    float *y = normal_floats(r, (size_t)c->n + 1), *one = xmalloc(((size_t)c->n + 1) * sizeof *one);
    memcpy(one, y, ((size_t)c->n + 1) * sizeof *y);
    c->k->sum[c->type](&y, &(const float *){c->c}, 1, &(vec_rows){c->row, ROWS, true}, c->n);
    for (int j = 0; j < c->n; j++) {
        double want = (double)one[j], scale = fabs(want);
        for (int i = 0; i < ROWS; i++) {
            const double term = (double)c->c[i] * (double)c->wide[i][j];
            want += term, scale += fabs(term);
        }
        assert_sum("sum", y[j], want, scale);
    }
    for (int i = 0; i < ROWS; i++)
        c->k->sum[c->type](&one, &(const float *){&c->c[i]}, 1, &(vec_rows){&c->row[i], 1, false}, c->n);
    assert_same_bits("sums of rows one by one and together", one, y, ((size_t)c->n + 1) * sizeof *y);
    free(y), free(one);
}

// Sums for several rows of y are those for each alone, to the bit.
static void check_sums(const kernel_case *c, rng *r) {
    enum { Y = 2 * VEC_ROWS - 1 };
    const size_t n = (size_t)c->n;
    float *y = normal_floats(r, Y * n), *alone = xmalloc(sizeof *y * Y * n), shares[Y][ROWS], *to[Y];
    const float *share[Y];
    memcpy(alone, y, sizeof *y * Y * n);
    for (int i = 0; i < Y; i++) {
        for (int j = 0; j < ROWS; j++) shares[i][j] = (float)(i - j) / 7;
        to[i] = y + (size_t)i * n, share[i] = shares[i];
    }
    c->k->sum[c->type](to, share, Y, &(vec_rows){c->row, ROWS, true}, c->n);
    for (size_t i = 0; i < Y; i++)
        c->k->sum[c->type](&(float *){alone + i * n}, &share[i], 1, &(vec_rows){c->row, ROWS, false}, c->n);
    assert_same_bits("sums for several rows and for each", y, alone, sizeof *y * Y * n);
    free(y), free(alone);
}

static void kernels(void **state) {
    (void)state;
    rng r = rng_make(1);
    for (int set = 0; set < SETS; set++)
        for (int t = 0; t < TYPES; t++)
            for (int blocks = 1; blocks <= 20; blocks += blocks < 5 ? 1 : 15) {
                kernel_case c = {.k = vec_find(set_names[set]), .type = types[t]};
                if (!c.k) continue;
                c.n = blocks * (int)dtype_block(types[t]);
                float *wide, *x = normal_floats(&r, VEC_ROWS * (size_t)c.n), *factor = normal_floats(&r, ROWS);
                uint8_t *data = random_blocks(&r, types[t], ROWS * (size_t)c.n, &wide);
                for (int i = 0; i < ROWS + VEC_AHEAD; i++) {  // in no order of memory
                    const size_t row = (size_t)(ROWS - 1 - i % ROWS);
                    c.row[i] = data + row * dtype_size(types[t], (size_t)c.n);
                    if (i < ROWS) c.wide[i] = wide + row * (size_t)c.n;
                }
                for (int i = 0; i < VEC_ROWS; i++) c.x[i] = x + i * c.n;
                c.c = factor;
                check_widen(&c, &r);
                check_dot(&c);
                check_sum(&c, &r);
                check_sums(&c, &r);
                free(data), free(wide), free(x), free(factor);
            }
}

// ---------------------------------------------------------------- operations
// W (rows, cols) in blocks and in fp32, turned or not, and the operations on both.
static void check_operations(rng *r, dtype type, int rows, int cols, bool turned) {
    enum { SEQS = 3 };
    const ops *o = ops_cpu();
    const span s[SEQS] = {{0, 3}, {3, 21}, {24, 1}}, every = {0, 25};
    float *held;
    uint8_t *data = random_blocks(r, type, (size_t)rows * (size_t)cols, &held);
    float *w = xmalloc((size_t)rows * (size_t)cols * sizeof *w), *x = normal_floats(r, 25 * (size_t)cols),
          *dy = normal_floats(r, 25 * (size_t)rows), *bias = normal_floats(r, (size_t)rows);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) w[i * cols + j] = turned ? held[j * rows + i] : held[i * cols + j];
    const weight on[2] = {{w, DT_F32, rows, cols, NULL, NULL, false}, {data, type, rows, cols, NULL, NULL, turned}},
                 b = {bias, DT_F32, rows, 1, NULL, NULL, false};
    float *y[2], *dx[2];
    double *squares[2], *sums[2];
    assert_true(weight_size(&on[1]) == dtype_size(type, (size_t)rows * (size_t)cols));
    for (int k = 0; k < 2; k++) {
        y[k] = xcalloc(25 * (size_t)rows, sizeof *y[k]);
        dx[k] = xcalloc(25 * (size_t)cols, sizeof *dx[k]);
        squares[k] = xcalloc((size_t)cols, sizeof *squares[k]);
        sums[k] = xcalloc((size_t)rows * WSUMS, sizeof *sums[k]);
        o->linear(y[k], x, &on[k], &b, false, s, SEQS);
        o->linear(y[k], x, &on[k], NULL, true, s + 1, 2);
        o->linear_back(dx[k], dy, &on[k], false, s, SEQS);
        o->linear_back(dx[k], dy, &on[k], true, s + 1, 1);
        o->column_squares(squares[k], &on[k]);
        if (!turned) o->weight_sums(sums[k], dy, x, NULL, NULL, &on[k], 0, rows, false, &every);
    }
    for (int i = 0; i < 25 * rows; i++) assert_sum("linear", y[1][i], (double)y[0][i], sqrt(cols));
    for (int i = 0; i < 25 * cols; i++) assert_sum("linear_back", dx[1][i], (double)dx[0][i], sqrt(rows));
    for (int i = 0; i < cols; i++)
        if (fabs(squares[1][i] - squares[0][i]) > 1e-12 * squares[0][i]) fail_msg("square of column %d", i);
    assert_same_bits("weight_sums", sums[0], sums[1], (size_t)rows * WSUMS * sizeof(double));
    for (int k = 0; k < 2; k++) free(y[k]), free(dx[k]), free(squares[k]), free(sums[k]);
    free(data), free(held), free(w), free(x), free(dy), free(bias);
}

static void operations(void **state) {
    (void)state;
    rng r = rng_make(2);
    for (int set = 0; set < SETS; set++) {
        vec_use(vec_find(set_names[set]));
        for (int t = 0; t < TYPES; t++) {
            const int block = (int)dtype_block(types[t]);
            check_operations(&r, types[t], 70, 2 * block, false);
            check_operations(&r, types[t], 2 * block, 70, true);
            check_operations(&r, types[t], 3, 512, false);  // columns of more than a tile
        }
    }
    vec_use(NULL);
}

// ---------------------------------------------------------------- models
static const model_config plain_opt = {
    .L = 3, .H = 4, .D = 16, .E = 64, .F = 90, .P = 32, .V = 80, .positions = 90, .bias = true};
static const model_config grouped = {
    .type = MODEL_QWEN3,
    .L = 3,
    .H = 6,
    .D = 8,
    .E = 32,
    .F = 53,
    .P = 32,
    .V = 61,
    .positions = 90,
    .llama = {.K = 2, .act = ACT_SILU, .norm_eps = 1e-5, .rope = {.theta = 100}, .bias_qkv = true, .qk_norm = true}};
static const model_config *const configs[] = {&plain_opt, &grouped};

// No number is further from what it was than a step of the block that has the largest.
static void assert_near(const char *name, const float *is, const float *was, size_t n, dtype type) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(was[i]));
    const float steps = type == DT_Q8_0 ? 127 : 8, room = dtype_in_blocks(type) ? most / steps * 1.01f : 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - was[i]) <= room)) fail_msg("%s[%zu] is %g, was %g", name, i, (double)is[i], (double)was[i]);
}

// A model in blocks, and the model of exactly its numbers in fp32.
typedef struct {
    random_opt from;
    model in_blocks, wide;
    tensor *t;
} both;

static void both_make(both *m, const model_config *c, dtype type, uint64_t seed) {
    int n;
    random_opt_make(&m->from, c, seed);
    if (model_from_tensors_as(&m->in_blocks, c, m->from.t, m->from.n, ops_cpu(), (int)type)) fail_msg("%s", err_get());
    m->t = arch_tensor_list(c, &n);
    for (int i = 0; i < n; i++) {
        int layer;
        const tensor_spec *s = arch_find(m->in_blocks.arch.family, m->t[i].name, &layer);
        const weight *w = model_slot(&m->in_blocks, s, layer);
        assert_true(dtype_in_blocks(w->type) == (s->cols != DIM_NONE && s->rows != DIM_POSITIONS));
        assert_true(w->turned == (s->transposed != 0));
        const size_t count = (size_t)w->rows * (size_t)w->cols;
        float *to = m->t[i].made = xmalloc(count * sizeof *to), *held = xmalloc(count * sizeof *held);
        dtype_widen(held, w->data, w->type, count);
        for (int row = 0; row < w->rows; row++)
            for (int col = 0; col < w->cols; col++)
                to[row * w->cols + col] = w->turned ? held[col * w->rows + row] : held[row * w->cols + col];
        m->t[i].data = to;
        assert_near(m->t[i].name, to, weights_find(m->from.t, m->from.n, m->t[i].name), count, w->type);
        free(held);
    }
    if (model_from_tensors(&m->wide, c, m->t, n)) fail_msg("%s", err_get());
    assert_true(m->in_blocks.changed && !m->wide.changed);
    assert_string_equal(model_weights_name(&m->in_blocks), weight_options[type]);
    assert_string_equal(model_weights_name(&m->wide), "as stored");
}

static void both_free(both *m) {
    tensors_free(m->t, m->from.n);
    model_free(&m->in_blocks);
    model_free(&m->wide);
    random_opt_free(&m->from);
}

static void assert_close(const char *what, const float *got, const float *want, int n, double tolerance) {
    double *w = xmalloc((size_t)n * sizeof *w);
    for (int i = 0; i < n; i++) w[i] = (double)want[i];
    assert_agree(what, got, w, (size_t)n, tolerance);
    free(w);
}

// Dense, masked by zeroing, over live units alone, of few tokens and of many: the numbers of the widened model, and the
// same bits at any thread count.
static void passes(void **state) {
    (void)state;
    rng r = rng_make(4);
    int32_t tokens[40];
    float want[100], got[100], again[100];
    const int threads = omp_get_max_threads();
    for (int round = 0; round < 4; round++) {
        const model_config *c = configs[round / 2];
        both m;
        both_make(&m, c, types[round % 2], (uint64_t)(10 + round));
        const size_t units = (size_t)c->L * (size_t)(c->H + c->F);
        uint8_t *keep = xmalloc(units);
        for (size_t i = 0; i < units; i++) keep[i] = rng_below(&r, 2) != 0;
        const mask half = {keep, keep + c->L * c->H};
        assert_true(model_sparse_prepare(&m.in_blocks) == 0);  // what is turned needs no copy
        assert_true(m.in_blocks.layer[1].w2_t.data == m.in_blocks.layer[1].w2.data);
        compact_model small, whole;
        uint8_t *every = xmalloc(units);
        memset(every, 1, units);
        const mask all = {every, every + c->L * c->H};
        compact_make_of(&small, &m.in_blocks, &half, NULL);
        compact_make_of(&whole, &m.in_blocks, &all, NULL);
        for (int n = 1; n <= 40; n = n < 3 ? n + 2 : n + 37) {
            random_tokens(tokens, n, c->V, &r);
            logits_of(&m.wide, tokens, n, NULL, RUN_FORWARD, want);
            logits_of(&m.in_blocks, tokens, n, NULL, RUN_FORWARD, got);
            assert_close("dense logits", got, want, c->V, 1e-5);
            logits_of(&m.wide, tokens, n, &half, RUN_MASK_BY_ZERO, want);
            logits_of(&m.in_blocks, tokens, n, &half, RUN_MASK_BY_ZERO, got);
            assert_close("masked logits", got, want, c->V, 1e-5);
            logits_of(&m.in_blocks, tokens, n, &half, RUN_FORWARD, got);
            assert_close("logits of live units", got, want, c->V, 1e-5);
            logits_of(&small.m, tokens, n, NULL, RUN_FORWARD, again);
            assert_close("logits of the compacted model", again, want, c->V, 1e-5);
            logits_of(&m.wide, tokens, n, NULL, RUN_FORWARD, want);
            logits_of(&whole.m, tokens, n, NULL, RUN_FORWARD, again);
            assert_close("logits of one that lost nothing", again, want, c->V, 1e-5);
            for (int t = 1; t <= 3; t++) {
                omp_set_num_threads(t);
                logits_of(&m.in_blocks, tokens, n, &half, RUN_FORWARD, again);
                assert_same_bits("threads", again, got, (size_t)c->V * sizeof *got);
            }
            omp_set_num_threads(threads);
        }
        compact_free(&small);
        compact_free(&whole);
        free(keep), free(every);
        both_free(&m);
    }
}

// Gradients and Hessian-vector products of the taps of all layers, one after the other.
typedef struct {
    float at[20000];
    size_t n;
    bool hessian;
} taps;

static void keep_taps(void *ctx, model_run *r, int layer) {
    taps *k = ctx;
    const float *const heads = k->hessian ? model_hess_a(r, layer) : model_grad_a(r, layer),
                       *const neurons = model_grad_tap(r, UNIT_NEURONS, layer),
                       *const from = k->hessian ? model_hess_z(r, layer) : neurons;
    const size_t A = (size_t)model_row(r, 1) * 2, H = A * 48, F = A * 53;  // of the smaller model
    assert_true(k->n + H + F <= sizeof k->at / sizeof *k->at);
    memcpy(k->at + k->n, heads, H * sizeof *k->at);
    memcpy(k->at + k->n + H, from, F * sizeof *k->at);
    k->n += H + F;
}

static void gradients(void **state) {
    (void)state;
    rng r = rng_make(5);
    int32_t tokens[24];
    for (int round = 0; round < 4; round++) {
        const model_config *c = configs[round / 2];
        both m;
        both_make(&m, c, types[round % 2], (uint64_t)(20 + round));
        random_tokens(tokens, 24, c->V, &r);
        const model_seq s[2] = {{.tokens = tokens, .n = 12, .targets_from = 5, .last_target = 3},
                                {.tokens = tokens + 12, .n = 12, .targets_from = 0, .last_target = 4}};
        taps *found = xcalloc(4, sizeof *found);
        double logprob[2][40];
        for (int k = 0; k < 2; k++) {
            model_run *run = model_run_new(k ? &m.in_blocks : &m.wide, 24, 2, RUN_TAPS | RUN_TANGENT);
            model_forward(run, s, 2);
            model_backward(run, NULL, logprob[k], NULL, keep_taps, &found[k]);
            found[2 + k].hessian = true;
            model_hessian(run, NULL, NULL, NULL, NULL, keep_taps, &found[2 + k]);
            model_run_free(run);
        }
        for (int i = 0; i < 19; i++) assert_true(fabs(logprob[1][i] - logprob[0][i]) < 1e-4);
        assert_close("gradients", found[1].at, found[0].at, (int)found[0].n, 1e-4);
        assert_close("Hessian-vector products", found[3].at, found[2].at, (int)found[2].n, 1e-3);
        free(found);
        both_free(&m);
    }
}

// ---------------------------------------------------------------- files
// What a GGUF file has in blocks stays so, in the file; rows of q and k are at their places; the rest is widened.
static void kept_as_in_the_file(void **state) {
    (void)state;
    ckpt c;
    model m, wide;
    if (ckpt_open(&c, GGUF_GOLDEN "mixed.gguf")) fail_msg("%s", err_get());
    int n_blocks = 0;
    for (int k = 0; k < c.n_tensors; k++) {
        const tensor *t = &c.tensors[k];
        const size_t n = tensor_numbers(t);
        float *x = xmalloc(n * sizeof *x);
        int sum = 0;
        for (const char *p = t->name; *p; p++) sum += (unsigned char)*p;
        dtype_widen(x, t->data, t->type, n);
        for (size_t i = 0; i < n; i++) {
            const float want = (float)((sum + 7 * (int)i) % 61 - 30) / 16;
            if (fabsf(x[i] - want) > (t->rank > 1 ? 0.24f : 0)) fail_msg("%s[%zu] is %g", t->name, i, (double)x[i]);
        }
        n_blocks += dtype_in_blocks(t->type);
        assert_true(!t->made || t->type == DT_F32 || strstr(t->name, "q_proj") || strstr(t->name, "k_proj"));
        free(x);
    }
    assert_int_equal(n_blocks, 12);
    ckpt_close(&c);
    if (model_load(&m, GGUF_GOLDEN "mixed.gguf") || model_load_as(&wide, GGUF_GOLDEN "mixed.gguf", ops_cpu(), DT_F32))
        fail_msg("%s", err_get());
    assert_string_equal(m.file.hash, wide.file.hash);
    assert_string_equal(model_weights_name(&m), "in blocks");
    assert_string_equal(model_weights_name(&wide), "as stored");
    // of the file's memory nothing is copied but rows that moved, and what is turned
    const int32_t tokens[] = {1, 300, 17, 44, 9};
    float got[519], want[519];
    logits_of(&m, tokens, 5, NULL, RUN_FORWARD, got);
    logits_of(&wide, tokens, 5, NULL, RUN_FORWARD, want);
    double square = 0, off = 0;
    for (int v = 0; v < 519; v++) {
        square += (double)want[v] * (double)want[v];
        off += ((double)got[v] - (double)want[v]) * ((double)got[v] - (double)want[v]);
    }
    const double change = sqrt(off / square);
    if (!(change > 0 && change < 0.05)) fail_msg("turning changes logits by %g of their size", change);
    model_free(&m);
    model_free(&wide);
}

static void damaged(void **state) {
    (void)state;
    static const uint8_t infinite[] = {0x00, 0x7c}, nan[] = {0x01, 0xfe};
    static const struct {
        const char *name, *says;
        size_t at;  // byte of its data
        const uint8_t *to;
    } lie[] = {
        {"token_embd.weight", "embed_tokens.weight: the scale of Q8_0 block 0 of row 2 is NaN or infinite", 68, nan},
        {"blk.0.attn_k.weight", "layers.0.self_attn.k_proj.weight: the scale of Q8_0 block 0 of row 0 is", 0, infinite},
        {"blk.0.attn_v.weight", "layers.0.self_attn.v_proj.weight: the scale of Q4_1 block 0 of row 3 is", 62,
         infinite},
        {"blk.0.ffn_down.weight", "layers.0.mlp.down_proj.weight: the scale of Q4_1 block 1 of row 1 is", 60, nan},
        {"output.weight", "lm_head.weight: the scale of Q4_0 block 0 of row 518 is", 18 * 518, infinite}};
    size_t size;
    char *bytes = file_read(GGUF_GOLDEN "mixed.gguf", &size), path[] = "/tmp/test_blocks_XXXXXX";
    gguf g;
    close(mkstemp(path));
    assert_int_equal(gguf_parse(&g, (const uint8_t *)bytes, size, "file"), 0);
    for (size_t k = 0; k < sizeof lie / sizeof *lie; k++) {
        uint8_t *at = (uint8_t *)(uintptr_t)tensor_of(&g, lie[k].name)->data + lie[k].at, was[2];
        memcpy(was, at, 2);
        memcpy(at, lie[k].to, 2);
        FILE *f = fopen(path, "wb");
        assert_true(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
        model m;
        expect_error(model_load(&m, path), lie[k].says);
        memcpy(at, was, 2);
    }
    gguf_free(&g);
    free(bytes);
    unlink(path);
}

// What cannot be: rows that are no whole blocks, activations of 16 bits, numbers beyond fp16.
static void refusals(void **state) {
    (void)state;
    model_config c = plain_opt;
    model m;
    random_opt o;
    c.P = 48;
    random_opt_make(&o, &c, 7);
    expect_error(model_from_tensors_as(&m, &c, o.t, o.n, ops_cpu(), DT_Q4_0),
                 "--weights q4_0: rows of 48 numbers are no");
    expect_error(model_from_tensors_as(&m, &c, o.t, o.n, ops_open_as("cpu", DT_BF16), DT_Q8_0),
                 "--weights q8_0: with --activations bf16");
    random_opt_free(&o);
    random_opt_make(&o, &plain_opt, 7);
    weights_find(o.t, o.n, "layers.1.fc2.weight")[5] = 1e8f;
    expect_error(model_from_tensors_as(&m, &plain_opt, o.t, o.n, ops_cpu(), DT_Q8_0),
                 "tensor layers.1.fc2.weight holds numbers that a Q8_0 block's fp16 scale is too small for");
    random_opt_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantised_as_the_package_does),
                                       cmocka_unit_test(round_trip),
                                       cmocka_unit_test(kernels),
                                       cmocka_unit_test(operations),
                                       cmocka_unit_test(passes),
                                       cmocka_unit_test(gradients),
                                       cmocka_unit_test(kept_as_in_the_file),
                                       cmocka_unit_test(damaged),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
