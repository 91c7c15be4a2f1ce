// test_compact - compacted checkpoints: the model without the units that a mask drops is the masked model, in whole passes, in decoding, with a
// further mask, on the CUDA table; its gradients and Hessian-vector products are those of the whole model whose dropped units put out
// nothing; compacting twice is compacting once; masks rank and count the units that are left; number formats; configs that do not fit.
#include "opt_fixture.h"
#include "compact.h"
#include "mask.h"
#include "shim.h"
#include "simd.h"

static char root[] = "/tmp/test_compact_XXXXXX";
static const opt_config shapes[] = {
    {.L = 4, .H = 4, .E = 24, .F = 40, .D = 6, .P = 24, .V = 50, .positions = 40, .pre_ln = true, .final_ln = true, .bias = true, .tied = true, .bos = 2, .eos = 2, .pad = 1},
    {.L = 4, .H = 3, .E = 21, .F = 33, .D = 7, .P = 10, .V = 50, .positions = 40, .bias = true, .tied = true, .bos = 2, .eos = 2, .pad = 1},
    {.L = 3, .H = 2, .E = 32, .F = 9, .D = 16, .P = 32, .V = 50, .positions = 40, .pre_ln = true, .tied = true, .bos = 2, .eos = 2, .pad = 1}};
enum { SHAPES = 3, T = 20, V = 50, MODES = 5 };

static char *folder(const char *name) { return xasprintf("%s/%s", root, name); }

// A checkpoint of random weights on disk, and loaded.
static void make_source(opt *m, const opt_config *c, dtype type, const char *name) {
    int n;
    tensor *t = random_weights(c, 7, &n);
    for (int i = 0; i < n && type != DT_F32; i++) {
        const size_t count = tensor_bytes(&t[i]) / 4;
        uint16_t *h = xmalloc(count * sizeof *h);
        for (size_t k = 0; k < count; k++) h[k] = type == DT_F16 ? float_to_half(((const float *)t[i].data)[k]) : float_to_bf16(((const float *)t[i].data)[k]);
        free((void *)t[i].data);
        t[i].data = h;
        t[i].type = type;
    }
    char *dir = folder(name);
    opt_config declared = *c;
    declared.declared = type;
    assert_int_equal(ckpt_save(dir, &declared, t, n), 0);
    weights_free(t, n);
    if (opt_load(m, dir) != 0) fail_msg("%s", err_get());
    free(dir);
}

// 0: units at random; 1: a layer without heads, one without neurons, one with neither; 2: one head and one neuron each; 3: nothing is left; 4: all is.
static void make_mask(mask *m, const opt_config *c, rng *r, int mode) {
    mask_alloc(m, c);
    for (int kind = OPT_HEADS; kind <= OPT_NEURONS; kind++)
        for (int l = 0; l < c->L; l++) {
            const int U = kind == OPT_HEADS ? c->H : c->F, units = opt_units(c, l, kind), one = units ? (int)rng_below(r, (uint64_t)units) : 0;
            uint8_t *keep = (kind == OPT_HEADS ? m->heads : m->neurons) + l * U;
            for (int u = 0; u < units; u++) keep[u] = mode == 4 || (mode == 2 ? u == one : mode != 3 && rng_below(r, 2));
            if (mode == 1 && (l == 0 || l == 1 + kind)) memset(keep, 0, (size_t)U);
        }
}

static void compacted(opt *small, const opt *whole, const mask *m, int type, const char *name) {
    char *dir = folder(name);
    if (compact_save(dir, &whole->file, m, type) != 0 || opt_load(small, dir) != 0) fail_msg("%s", err_get());
    free(dir);
}

static void random_tokens(int32_t *tokens, int n, rng *r) {
    for (int t = 0; t < n; t++) tokens[t] = (int32_t)rng_below(r, V);
}

// Logits [n, V] behind every token, of one pass or token by token behind a prompt of 3.
static void all_logits(float *out, const opt *m, const int32_t *tokens, int n, const mask *units, unsigned flags, bool decode, kv_policy kv) {
    opt_run *run = opt_run_new(m, n, 1, flags);
    opt_cache *cache = opt_cache_new_kv(m, n, kv);
    for (int t = 0; t < n;) {
        const int take = !decode ? n : t ? 1 : 3;
        opt_seq s = {.tokens = tokens + t, .n = take, .prefix = cache, .append = cache, .mask = units, .last_target = OPT_NO_TARGET};
        if (decode) {
            s.targets_from = take - 1;
            opt_forward(run, &s, 1);
            opt_logits(run, 0, out + (size_t)(t + take - 1) * V);
        } else
            for (int row = 0; row < n; row++) {  // opt_logits gives the last row of a sequence
                s.n = row + 1;
                s.targets_from = row;
                s.prefix = s.append = NULL;
                opt_forward(run, &s, 1);
                opt_logits(run, 0, out + (size_t)row * V);
            }
        t += take;
    }
    opt_cache_free(cache);
    opt_run_free(run);
}

static void agree_rows(const char *what, const float *got, const float *want, int from, double tol) {
    double w[V];
    for (int t = from; t < T; t++) {
        for (int v = 0; v < V; v++) w[v] = (double)want[t * V + v];
        assert_agree(what, got + t * V, w, V, tol);
    }
}

// ---------------------------------------------------------------- the same function
static void compacted_is_masked(void **state) {
    (void)state;
    rng r = rng_make(3);
    float *want = xmalloc(T * V * sizeof *want), *got = xmalloc(T * V * sizeof *got);
    for (int shape = 0; shape < SHAPES; shape++)
        for (int mode = 0; mode < MODES; mode++) {
            const dtype type = (dtype)(mode % 3);
            opt whole, small;
            mask m, more;
            int32_t tokens[T];
            make_source(&whole, &shapes[shape], type, "source");
            random_tokens(tokens, T, &r);
            make_mask(&m, &whole.c, &r, mode);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            assert_int_equal(opt_compacted(&small.c), mode != 4);
            all_logits(want, &whole, tokens, T, &m, OPT_FORWARD, false, KV_COMPUTE);
            all_logits(got, &small, tokens, T, NULL, OPT_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted", got, want, 0, 1e-5);
            all_logits(got, &small, tokens, T, NULL, OPT_FORWARD, true, KV_COMPUTE);
            agree_rows("compacted, token by token", got, want, 2, 1e-5);
            // a mask on what is left: the same units dropped from the whole model
            make_mask(&more, &small.c, &r, 0);
            mask both;
            mask_alloc(&both, &whole.c);
            for (int kind = OPT_HEADS; kind <= OPT_NEURONS; kind++)
                for (int l = 0; l < whole.c.L; l++) {
                    const int U = kind == OPT_HEADS ? whole.c.H : whole.c.F;
                    const uint8_t *first = (kind == OPT_HEADS ? m.heads : m.neurons) + l * U, *second = (kind == OPT_HEADS ? more.heads : more.neurons) + l * U;
                    for (int u = 0, k = 0; u < U; u++) (kind == OPT_HEADS ? both.heads : both.neurons)[l * U + u] = first[u] ? second[k++] : 0;
                }
            all_logits(want, &whole, tokens, T, &both, OPT_FORWARD, false, KV_COMPUTE);
            all_logits(got, &small, tokens, T, &more, OPT_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted and masked", got, want, 0, 1e-5);
            opt_sparse_prepare(&small);
            all_logits(got, &small, tokens, T, &more, OPT_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted and sparse", got, want, 0, 1e-5);
            for (int kv = KV_COMPUTE; kv <= KV_SKIP; kv++) {
                all_logits(got, &small, tokens, T, &more, OPT_FORWARD, true, (kv_policy)kv);
                agree_rows("compacted and sparse, token by token", got, want, 2, 1e-5);
            }
            mask_free(&both), mask_free(&more), mask_free(&m);
            opt_free(&small), opt_free(&whole);
        }
    free(want), free(got);
}

// A pass shows the head outputs of the whole model under the mask, those that are left one behind the other, and 0 behind them.
static void keep_heads(void *to, opt_state state, int layer, const float *x) {
    if (state == OPT_HEAD_OUTPUT) memcpy(((float **)to)[layer], x, (size_t)shapes[0].E * sizeof *x);
}

static void shown_heads(void **state) {
    (void)state;
    enum { L = 4, H = 4, D = 6, E = H * D };
    rng r = rng_make(11);
    opt whole, small;
    mask m;
    int32_t tokens[T];
    float shown[2][L][E];
    double want[E];
    make_source(&whole, &shapes[0], DT_F32, "source");
    random_tokens(tokens, T, &r);
    make_mask(&m, &whole.c, &r, 1);
    compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
    for (int k = 0; k < 2; k++) {
        float *to[L] = {shown[k][0], shown[k][1], shown[k][2], shown[k][3]};
        const opt_watch w = {.row = T - 1, .states = 1 << OPT_RESIDUAL | 1 << OPT_HEAD_OUTPUT, .see = keep_heads, .self = to};
        opt_run *run = opt_run_new(k ? &small : &whole, T, 1, OPT_FORWARD);
        opt_forward(run, &(opt_seq){.tokens = tokens, .n = T, .mask = k ? NULL : &m, .watch = &w, .targets_from = T - 1, .last_target = OPT_NO_TARGET}, 1);
        opt_run_free(run);
    }
    for (int l = 0; l < L; l++) {
        int n = 0;
        for (int h = 0; h < H; h++)
            for (int d = 0; m.heads[l * H + h] && d < D; d++) want[n++] = (double)shown[0][l][h * D + d];
        assert_int_equal(n, D * opt_units(&small.c, l, OPT_HEADS));
        assert_agree("head outputs shown", shown[1][l], want, (size_t)n, 1e-5);
        for (; n < E; n++) assert_true(shown[1][l][n] == 0);
    }
    mask_free(&m);
    opt_free(&small), opt_free(&whole);
}

// Heads that a first mask drops and a second one brings back, in a model with different numbers of heads: repaired, K and V are those of KV_COMPUTE.
static void repair_of_layers_that_differ(void **state) {
    (void)state;
    rng r = rng_make(4);
    opt whole, small;
    mask m, a, b;
    int32_t tokens[T];
    float want[V], got[V];
    double w[V];
    make_source(&whole, &shapes[0], DT_F32, "source");
    random_tokens(tokens, T, &r);
    for (int round = 0; round < 6; round++) {
        make_mask(&m, &whole.c, &r, round % 2);
        compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
        opt_sparse_prepare(&small);
        make_mask(&a, &small.c, &r, 0);
        make_mask(&b, &small.c, &r, 4);
        opt_run *run = opt_run_new(&small, T, 1, OPT_FORWARD);
        for (int kv = KV_COMPUTE; kv <= KV_REPAIR; kv++) {
            opt_cache *cache = opt_cache_new_kv(&small, T, (kv_policy)kv);
            const mask *use[] = {NULL, &a, &b};
            static const int length[] = {5, 7, 1};
            for (int k = 0, at = 0; k < 3; at += length[k++]) {
                opt_seq s = {.tokens = tokens + at, .n = length[k], .prefix = cache, .append = cache, .mask = use[k], .targets_from = length[k] - 1, .last_target = OPT_NO_TARGET};
                opt_forward(run, &s, 1);
            }
            opt_logits(run, 0, kv == KV_COMPUTE ? want : got);
            opt_cache_free(cache);
        }
        for (int v = 0; v < V; v++) w[v] = (double)want[v];
        assert_agree("repaired", got, w, V, 1e-5);
        opt_run_free(run);
        mask_free(&a), mask_free(&b), mask_free(&m);
        opt_free(&small);
    }
    opt_free(&whole);
}

// ---------------------------------------------------------------- gradients
typedef struct { const opt *m, *on; opt_run *run; float *a, *z, *ha, *hz, *res; int rows; bool hess; } taps;

// [L, rows, E] and [L, rows, F], the rows of a layer packed.
static void keep_taps(void *ctx, opt_run *run, int l) {
    taps *t = ctx;
    const opt_config *c = &t->m->c;
    const size_t A = (size_t)opt_units(c, l, OPT_HEADS) * (size_t)c->D, F = (size_t)opt_units(c, l, OPT_NEURONS), rows = (size_t)t->rows, at = (size_t)l * rows;
    const ops *o = t->on->o;
    o->get((t->hess ? t->ha : t->a) + at * (size_t)c->E, t->hess ? opt_hess_a(run, l) : opt_grad_a(run, l), rows * A * sizeof(float));
    o->get((t->hess ? t->hz : t->z) + at * (size_t)c->F, t->hess ? opt_hess_z(run, l) : opt_grad_z(run, l), rows * F * sizeof(float));
}

static void run_taps(taps *t, const opt *m, const int32_t *tokens, double *loss) {
    const size_t L = (size_t)m->c.L, E = (size_t)m->c.E, F = (size_t)m->c.F;
    *t = (taps){.m = m, .on = m, .rows = T, .a = xcalloc(L * T * E, 4), .z = xcalloc(L * T * F, 4), .ha = xcalloc(L * T * E, 4), .hz = xcalloc(L * T * F, 4), .res = xcalloc(T * E, 4)};
    t->run = opt_run_new(m, T, 2, OPT_TAPS | OPT_TANGENT);
    const opt_seq s[2] = {{.tokens = tokens, .n = 7, .targets_from = 2, .last_target = OPT_NO_OUTPUT}, {.tokens = tokens + 7, .n = T - 7, .targets_from = 5, .last_target = OPT_NO_OUTPUT}};
    double logprob[T];
    opt_forward(t->run, s, 2);
    opt_backward(t->run, NULL, logprob, NULL, keep_taps, t);
    *loss = 0;
    for (int i = 0; i < 4 + T - 7 - 6; i++) *loss -= logprob[i];
    t->hess = true;
    const float ones[2] = {1, 1}, on_w[2] = {0.5f, 0.25f};
    opt_hessian(t->run, NULL, ones, ones, on_w, keep_taps, t);
    m->o->get(t->res, opt_tap_res(t->run, 1), T * E * sizeof(float));
}

static void taps_free(taps *t) {
    opt_run_free(t->run);
    free(t->a), free(t->z), free(t->ha), free(t->hz), free(t->res);
}

// Kept units of layer l of `whole` against the units of `small`.
static void agree_taps(const char *what, const float *small, const float *whole, const uint8_t *keep, int U, int D, int l) {
    int units = 0, n = 0;
    for (int u = 0; u < U; u++) units += keep[u];
    if (!units) return;
    const int width = units * D;
    double *want = xmalloc((size_t)(T * width) * sizeof *want);
    for (int t = 0; t < T; t++)
        for (int u = 0; u < U; u++)
            for (int i = 0; keep[u] && i < D; i++) want[n++] = (double)whole[((size_t)l * T + (size_t)t) * (size_t)(U * D) + (size_t)(u * D + i)];
    assert_agree(what, small + (size_t)l * T * (size_t)(U * D), want, (size_t)n, 2e-4);
    free(want);
}

static void gradients(void **state) {
    (void)state;
    rng r = rng_make(5);
    for (int shape = 0; shape < SHAPES; shape++)
        for (int mode = 0; mode < 3; mode++) {
            const opt_config *c = &shapes[shape];
            opt whole, small, silent;
            mask m;
            int32_t tokens[T];
            make_source(&whole, c, DT_F32, "source");
            random_tokens(tokens, T, &r);
            make_mask(&m, &whole.c, &r, mode);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            // the whole model whose dropped units reach nothing
            int n;
            tensor *t = random_weights(c, 7, &n);
            for (int l = 0; l < c->L; l++) {
                char name[80];
                snprintf(name, sizeof name, "layers.%d.self_attn.out_proj.weight", l);
                float *wo = weights_find(t, n, name);
                snprintf(name, sizeof name, "layers.%d.fc2.weight", l);
                float *w2 = weights_find(t, n, name);
                for (int e = 0; e < c->E; e++) {
                    for (int i = 0; i < c->E; i++) wo[e * c->E + i] *= m.heads[l * c->H + i / c->D];
                    for (int j = 0; j < c->F; j++) w2[e * c->F + j] *= m.neurons[l * c->F + j];
                }
            }
            assert_int_equal(opt_from_tensors(&silent, c, t, n), 0);
            taps few, all;
            double loss, want;
            run_taps(&few, &small, tokens, &loss);
            run_taps(&all, &silent, tokens, &want);
            assert_true(fabs(loss - want) <= 1e-5 * fabs(want));
            for (int l = 0; l < c->L; l++) {
                const uint8_t *heads = m.heads + l * c->H, *neurons = m.neurons + l * c->F;
                agree_taps("dL/da", few.a, all.a, heads, c->H, c->D, l);
                agree_taps("dL/dz", few.z, all.z, neurons, c->F, 1, l);
                agree_taps("(Hv)_a", few.ha, all.ha, heads, c->H, c->D, l);
                agree_taps("(Hv)_z", few.hz, all.hz, neurons, c->F, 1, l);
            }
            taps_free(&few), taps_free(&all);
            opt_free(&silent), opt_free(&small), opt_free(&whole);
            weights_free(t, n);
            mask_free(&m);
        }
}

// ---------------------------------------------------------------- another device
static void on_cuda(void **state) {
    (void)state;
    const ops *gpu = shim_open();
    if (!gpu) return;
    rng r = rng_make(6);
    float *want = xmalloc(T * V * sizeof *want), *got = xmalloc(T * V * sizeof *got);
    for (int shape = 0; shape < SHAPES; shape++)
        for (int mode = 0; mode < 4; mode++) {
            opt whole, small, there;
            mask m, more;
            int32_t tokens[T];
            make_source(&whole, &shapes[shape], (dtype)(mode % 3), "source");
            random_tokens(tokens, T, &r);
            make_mask(&m, &whole.c, &r, mode);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            char *dir = folder("small");
            if (opt_load_on(&there, dir, gpu) != 0) fail_msg("%s", err_get());
            free(dir);
            for (int sparse = 0; sparse < 2; sparse++) {
                make_mask(&more, &small.c, &r, sparse ? 0 : 4);
                all_logits(want, &small, tokens, T, &more, OPT_FORWARD, false, KV_COMPUTE);
                if (sparse) opt_sparse_prepare(&there);
                all_logits(got, &there, tokens, T, sparse ? &more : NULL, OPT_FORWARD, sparse, KV_SKIP);
                agree_rows("on the CUDA table", got, want, 2, 1e-5);
                mask_free(&more);
            }
            taps a, b;
            double loss_a, loss_b;
            run_taps(&a, &small, tokens, &loss_a);
            run_taps(&b, &there, tokens, &loss_b);
            assert_true(fabs(loss_a - loss_b) <= 2e-5 * fabs(loss_a));
            for (int l = 0; l < whole.c.L; l++) {
                const int H = opt_units(&small.c, l, OPT_HEADS), F = opt_units(&small.c, l, OPT_NEURONS);
                uint8_t ones[64];
                memset(ones, 1, sizeof ones);
                // rows of a layer are packed in both: compare as one unit of the layer's width
                if (H) agree_taps("dL/da", b.a + (size_t)l * T * (size_t)small.c.E, a.a + (size_t)l * T * (size_t)small.c.E, ones, 1, H * small.c.D, 0);
                if (F) agree_taps("dL/dz", b.z + (size_t)l * T * (size_t)small.c.F, a.z + (size_t)l * T * (size_t)small.c.F, ones, 1, F, 0);
            }
            taps_free(&a), taps_free(&b);
            mask_free(&m);
            opt_free(&there), opt_free(&small), opt_free(&whole);
        }
    free(want), free(got);
}

// ---------------------------------------------------------------- files
static void twice_is_once(void **state) {
    (void)state;
    rng r = rng_make(8);
    opt whole, first, second, once;
    mask m, more, both;
    make_source(&whole, &shapes[0], DT_BF16, "source");
    make_mask(&m, &whole.c, &r, 0);
    compacted(&first, &whole, &m, COMPACT_AS_STORED, "first");
    make_mask(&more, &first.c, &r, 1);
    compacted(&second, &first, &more, COMPACT_AS_STORED, "second");
    mask_alloc(&both, &whole.c);
    for (int l = 0; l < whole.c.L; l++) {
        for (int u = 0, k = 0; u < whole.c.H; u++) both.heads[l * whole.c.H + u] = m.heads[l * whole.c.H + u] ? more.heads[l * whole.c.H + k++] : 0;
        for (int u = 0, k = 0; u < whole.c.F; u++) both.neurons[l * whole.c.F + u] = m.neurons[l * whole.c.F + u] ? more.neurons[l * whole.c.F + k++] : 0;
    }
    compacted(&once, &whole, &both, COMPACT_AS_STORED, "once");
    assert_string_equal(ckpt_hash(&once.file), ckpt_hash(&second.file));
    assert_true(strcmp(ckpt_hash(&once.file), ckpt_hash(&first.file)) != 0);
    mask_free(&m), mask_free(&more), mask_free(&both);
    opt_free(&whole), opt_free(&first), opt_free(&second), opt_free(&once);
}

// Every kept weight is the stored one, rounded to the type asked for as the compiler rounds.
static void types(void **state) {
    (void)state;
    rng r = rng_make(9);
    opt whole, small;
    mask m;
    make_source(&whole, &shapes[0], DT_F32, "source");
    make_mask(&m, &whole.c, &r, 4);
    for (int type = DT_F32; type <= DT_BF16; type++) {
        compacted(&small, &whole, &m, type, "small");
        assert_int_equal(small.c.declared, type);
        assert_int_equal(small.file.n_tensors, whole.file.n_tensors);
        for (int i = 0; i < small.file.n_tensors; i++) {
            const tensor *t = &small.file.tensors[i];
            const float *x = ckpt_find(&whole.file, t->name)->data;
            assert_int_equal(t->type, type);
            for (size_t k = 0; k < tensor_bytes(t) / dtype_bytes((dtype)type); k++) {
                if (type == DT_F32) assert_true(((const float *)t->data)[k] == x[k]);
                else if (type == DT_F16) assert_true((float)((const _Float16 *)t->data)[k] == (float)(_Float16)x[k]);
                else {
                    union { uint32_t u; float f; } b = {.u = (uint32_t)((const uint16_t *)t->data)[k] << 16};
                    assert_true(fabsf(b.f - x[k]) <= fabsf(x[k]) * 0x1p-8f);
                }
            }
        }
        opt_free(&small);
    }
    mask_free(&m);
    opt_free(&whole);
    for (uint32_t u = 0; u < 0x47800000u; u += 4093) {  // halves: every 4093rd float up to 65536, ties too
        union { uint32_t u; float f; } x = {.u = u}, tie = {.u = (u & ~0x1fffu) | 0x1000};
        for (int k = 0; k < 2; k++) {
            const _Float16 want = (_Float16)(k ? tie.f : x.f);
            uint16_t bits;
            memcpy(&bits, &want, 2);
            assert_int_equal(float_to_half(k ? tie.f : x.f), bits);
            assert_int_equal(float_to_half(k ? -tie.f : -x.f), bits | 0x8000);
        }
    }
    assert_int_equal(float_to_half(INFINITY), 0x7c00);
    assert_true(isnan(half_to_float(float_to_half(-NAN))));
    // bfloat16: nearest, ties to even
    assert_int_equal(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(float_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
    assert_int_equal(float_to_bf16(1.0f + 0x1.02p-8f), 0x3f81);
}

static void weights_outside_fp16(void **state) {
    (void)state;
    int n;
    tensor *t = random_weights(&shapes[0], 7, &n);
    weights_find(t, n, "layers.1.fc1.weight")[5] = 70000;
    char *dir = folder("large"), *out = folder("narrow");
    assert_int_equal(ckpt_save(dir, &shapes[0], t, n), 0);
    ckpt c;
    mask m;
    assert_int_equal(ckpt_open(&c, dir), 0);
    mask_alloc(&m, &c.config);
    assert_int_equal(compact_save(out, &c, &m, DT_F16), -1);
    assert_non_null(strstr(err_get(), "layers.1.fc1.weight: a weight is 70000"));
    char *file = xasprintf("%s/model.safetensors", out);
    assert_false(file_exists(file));
    assert_int_equal(compact_save(out, &c, &m, DT_BF16), 0);
    assert_true(file_exists(file));
    mask_free(&m);
    ckpt_close(&c);
    weights_free(t, n);
    free(file), free(dir), free(out);
}

static void replace(char *text, const char *what, const char *with) {
    char *at = strstr(text, what);
    assert_non_null(at);
    assert_int_equal(strlen(what), strlen(with));
    memcpy(at, with, strlen(with));
}

static void bad_configs(void **state) {
    (void)state;
    rng r = rng_make(10);
    opt whole, small;
    mask m;
    make_source(&whole, &shapes[0], DT_F32, "source");
    make_mask(&m, &whole.c, &r, 4);
    m.heads[0] = m.heads[whole.c.H] = m.heads[whole.c.H + 1] = m.neurons[3] = 0;  // heads 3 2 4 4, neurons 39 40 40 40
    compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
    char *dir = folder("small"), *path = folder("small/config.json"), *good = file_read(path, NULL);
    const struct { const char *what, *with, *says; } cases[] = {
        {"    3,\n    2,", "    2,\n    3,", "tensor layers.0.self_attn.k_proj.bias has shape [18], but config.json asks for [12]"},
        {"    39,", "    38,", "tensor layers.0.fc1.bias has shape [39], but config.json asks for [38]"},
        {"    39,", "    41,", "\"ffn_dim_per_layer\": layer 0 is no whole number in 0..40"},
        {"    39,", "    -1,", "\"ffn_dim_per_layer\": layer 0 is no whole number in 0..40"},
        {"    39,", "    .5,", "not valid JSON"},
        {"    3,\n    2,", "    \"x\", 2,", "\"num_attention_heads_per_layer\": layer 0 is no whole number in 0..4"},
        {"    3,\n    2,", "    3      ", "not valid JSON"},
        {"    3,\n    2,\n", "    3,        \n", "\"num_attention_heads_per_layer\" is not a list of 4 numbers, one per layer"},
        {"\"num_attention_heads_per_layer\"", "\"num_attention_heads_per_lover\"", "but config.json asks for"},
        {"\"ffn_dim_per_layer\": [\n    39,\n    40,\n    40,\n    40\n  ]", "\"ffn_dim_per_layer\": 39                                ", "\"ffn_dim_per_layer\" is not a list of 4 numbers"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = xstrdup(good);
        if (strlen(cases[i].what) != strlen(cases[i].with)) {
            char *at = strstr(text, cases[i].what), *next;
            assert_non_null(at);
            next = xasprintf("%.*s%s%s", (int)(at - text), text, cases[i].with, at + strlen(cases[i].what));
            free(text);
            text = next;
        } else replace(text, cases[i].what, cases[i].with);
        FILE *f = fopen(path, "w");
        fputs(text, f);
        fclose(f);
        free(text);
        ckpt c;
        if (ckpt_open(&c, dir) == 0) fail_msg("case %zu is accepted", i);
        if (!strstr(err_get(), cases[i].says)) fail_msg("case %zu: %s", i, err_get());
    }
    free(dir), free(path), free(good);
    mask_free(&m);
    opt_free(&small), opt_free(&whole);
}

// ---------------------------------------------------------------- masks
// Of the units that are left, against a sort; the others never run, whatever their score (NaN).
static void masks_of_what_is_left(void **state) {
    (void)state;
    enum { L = 5, H = 6, F = 20 };
    int heads[L] = {6, 0, 3, 1, 6}, neurons[L] = {20, 7, 0, 13, 1};
    const opt_config c = {.L = L, .H = H, .F = F, .heads = heads, .neurons = neurons};
    rng r = rng_make(11);
    mask m;
    mask_alloc(&m, &c);
    double score[2][L * F], effective[2];
    for (int round = 0; round < 400; round++) {
        const mask_rule rule = {.scope = (mask_scope)(round % 3), .units = UNITS_BOTH, .sparsity = (long)rng_below(&r, 100001), .dense_layers = round / 3 % 3, .compat = round % 7 == 6};
        for (int kind = 0; kind < 2; kind++)
            for (int l = 0; l < L; l++)
                for (int u = 0; u < (kind ? F : H); u++) score[kind][l * (kind ? F : H) + u] = u < (kind ? neurons : heads)[l] ? (double)rng_below(&r, 12) : NAN;
        if (mask_make(&m, &c, score[0], score[1], &rule) != 0) fail_msg("%s", err_get());
        mask_effective(&m, &c, &effective[0], &effective[1]);
        for (int kind = 0; kind < 2; kind++) {
            const int U = kind ? F : H, *units = kind ? neurons : heads;
            const uint8_t *keep = kind ? m.neurons : m.heads;
            int all = 0, off = 0, prunable = 0;
            for (int l = 0; l < L; l++) {
                int off_here = 0;
                for (int u = 0; u < U; u++)
                    if (u >= units[l]) assert_int_equal(keep[l * U + u], 0);
                    else off_here += !keep[l * U + u];
                all += units[l];
                off += off_here;
                if (l < rule.dense_layers) assert_int_equal(off_here, 0);
                else prunable += units[l];
                if (!rule.compat && rule.scope == SCOPE_LOCAL && l >= rule.dense_layers) assert_int_equal(off_here, mask_count(rule.sparsity, units[l]));
            }
            assert_true(fabs(effective[kind] - (double)off / all) < 1e-12);
            if (rule.compat) continue;
            if (rule.scope != SCOPE_LOCAL) assert_int_equal(off, mask_count(rule.sparsity, prunable));
            // no unit runs that scores below one that does not (hybrid: of layers beyond their reserve; local: of its layer)
            for (int a = 0; a < L * U && rule.scope != SCOPE_HYBRID; a++)
                for (int b = 0; b < L * U; b++) {
                    if (a / U < rule.dense_layers || b / U < rule.dense_layers || a % U >= units[a / U] || b % U >= units[b / U]) continue;
                    if (rule.scope == SCOPE_LOCAL && a / U != b / U) continue;
                    if (keep[a] && !keep[b]) assert_true(score[kind][a] > score[kind][b] || (score[kind][a] == score[kind][b] && a > b));
                }
            for (int l = rule.dense_layers; l < L && rule.scope == SCOPE_HYBRID; l++) {
                int on = 0, reserve = kind ? 1 : 1;
                for (int u = 0; u < units[l]; u++) on += keep[l * U + u];
                if ((prunable - off) / (L - rule.dense_layers) >= 1) assert_true(on >= (reserve < units[l] ? reserve : units[l]));
            }
        }
    }
    mask_free(&m);
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}
static int remove_root(void **state) {
    (void)state;
    char *command = xasprintf("rm -rf %s", root);
    const int bad = system(command);
    free(command);
    return bad;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(compacted_is_masked), cmocka_unit_test(shown_heads), cmocka_unit_test(repair_of_layers_that_differ), cmocka_unit_test(gradients), cmocka_unit_test(on_cuda),
                                       cmocka_unit_test(twice_is_once), cmocka_unit_test(types), cmocka_unit_test(weights_outside_fp16), cmocka_unit_test(bad_configs),
                                       cmocka_unit_test(masks_of_what_is_left)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
