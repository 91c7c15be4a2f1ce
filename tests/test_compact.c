// test_compact - compacted checkpoints: the model without the units that a mask drops is the masked model, in whole
// passes, in decoding, with a further mask, on the CUDA table; its gradients and Hessian-vector products are those of
// the whole model whose dropped units put out nothing.
#include "compact_fixture.h"
#include "model_run.h"
#include "shim.h"

enum { T = 20, V = 50 };

// Logits [n, V] after every token, of one pass or token by token after a prompt of 3.
static void all_logits(float *out, const model *m, const int32_t *tokens, int n, const mask *units, unsigned flags,
                       bool decode, kv_policy kv) {
    model_run *run = model_run_new(m, n, 1, flags);
    kv_cache *cache = kv_cache_new_as(m, n, kv);
    for (int t = 0; t < n;) {
        const int step = t ? 1 : 3, take = decode ? step : n;
        model_seq s = {.tokens = tokens + t,
                       .n = take,
                       .prefix = cache,
                       .append = cache,
                       .mask = units,
                       .last_target = SEQ_NO_TARGET};
        if (decode) {
            s.targets_from = take - 1;
            model_forward(run, &s, 1);
            model_logits(run, 0, out + (size_t)(t + take - 1) * V);
        } else
            for (int row = 0; row < n; row++) {  // model_logits gives the last row of a sequence
                s.n = row + 1;
                s.targets_from = row;
                s.prefix = s.append = NULL;
                model_forward(run, &s, 1);
                model_logits(run, 0, out + (size_t)row * V);
            }
        t += take;
    }
    kv_cache_free(cache);
    model_run_free(run);
}

static void agree_rows(const char *what, const float *got, const float *want, int from, double tol) {
    double w[V];
    for (int t = from; t < T; t++) {
        for (int v = 0; v < V; v++) w[v] = (double)want[t * V + v];
        assert_agree(what, got + t * V, w, V, tol);
    }
}

// Weights of a zeroed checkpoint: the source's, or 0; the 0 are those of rows and columns of dropped units, here of the
// two matrices that read the units, whose columns are theirs alone.
static void assert_zeroed(const model *zeroed, const model *whole, const mask *m) {
    const model_config *c = &whole->c;
    assert_false(model_compacted(&zeroed->c));
    assert_int_equal(zeroed->file.n_tensors, whole->file.n_tensors);
    for (int i = 0; i < whole->file.n_tensors; i++) {
        const tensor *t = &whole->file.tensors[i], *z = &zeroed->file.tensors[i];
        int layer;
        const tensor_spec *spec = arch_find(arch_of(c).family, t->name, &layer);
        const unit_owner owner = arch_owner(spec->cols);
        const size_t width = dtype_bytes(t->type), n = tensor_bytes(t) / width;
        assert_string_equal(t->name, z->name);
        assert_int_equal(tensor_bytes(z), tensor_bytes(t));
        for (size_t k = 0; k < n; k++) {
            const char *x = (const char *)z->data + k * width, *y = (const char *)t->data + k * width;
            static const char zero[4];
            const bool is_zero = memcmp(x, zero, width) == 0;
            assert_true(is_zero || memcmp(x, y, width) == 0);
            if (owner == OWNER_NONE) continue;
            const int at = (int)(k % (size_t)t->dim[1]);
            const bool keep = owner == OWNER_HEAD ? m->heads[layer * c->H + at / c->D] : m->neurons[layer * c->F + at];
            if (!keep) assert_true(is_zero);
            if (keep) assert_memory_equal(x, y, width);
        }
    }
}

// ---------------------------------------------------------------- the same function
static void compacted_is_masked(void **state) {
    (void)state;
    rng r = rng_make(3);
    float *want = xmalloc(T * V * sizeof *want), *got = xmalloc(T * V * sizeof *got);
    for (int shape = 0; shape < SHAPES; shape++)
        for (int pattern = 0; pattern < PATTERNS; pattern++) {
            const dtype type = (dtype)(pattern % 3);
            model whole, small;
            mask m, more;
            int32_t tokens[T];
            make_source(&whole, &shapes[shape], type, "source");
            random_tokens(tokens, T, V, &r);
            make_mask(&m, &whole.c, &r, pattern);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            // with equal widths a Llama is an ordinary one
            assert_int_equal(model_compacted(&small.c), pattern != 4 && !(pattern == 2 && whole.c.type != MODEL_OPT &&
                                                                          whole.c.type != MODEL_NEOX));
            all_logits(want, &whole, tokens, T, &m, RUN_FORWARD, false, KV_COMPUTE);
            all_logits(got, &small, tokens, T, NULL, RUN_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted", got, want, 0, 1e-5);
            all_logits(got, &small, tokens, T, NULL, RUN_FORWARD, true, KV_COMPUTE);
            agree_rows("compacted, token by token", got, want, 2, 1e-5);
            // zeros in their place: a model of the whole one's shape
            model zeroed;
            pruned(&zeroed, &whole, &m, COMPACT_AS_STORED, COMPACT_ZEROED, "zeroed");
            assert_zeroed(&zeroed, &whole, &m);
            all_logits(got, &zeroed, tokens, T, NULL, RUN_FORWARD, false, KV_COMPUTE);
            agree_rows("zeroed", got, want, 0, 1e-5);
            model_free(&zeroed);
            // a mask on what is left: the same units dropped from the whole model
            make_mask(&more, &small.c, &r, 0);
            mask both;
            make_both(&both, &whole.c, &m, &small.c, &more);
            all_logits(want, &whole, tokens, T, &both, RUN_FORWARD, false, KV_COMPUTE);
            all_logits(got, &small, tokens, T, &more, RUN_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted and masked", got, want, 0, 1e-5);
            model_sparse_prepare(&small);
            all_logits(got, &small, tokens, T, &more, RUN_FORWARD, false, KV_COMPUTE);
            agree_rows("compacted and sparse", got, want, 0, 1e-5);
            for (int kv = KV_COMPUTE; kv <= KV_SKIP; kv++) {
                all_logits(got, &small, tokens, T, &more, RUN_FORWARD, true, (kv_policy)kv);
                agree_rows("compacted and sparse, token by token", got, want, 2, 1e-5);
            }
            mask_free(&both), mask_free(&more), mask_free(&m);
            model_free(&small), model_free(&whole);
        }
    free(want), free(got);
}

// A pass shows the head outputs of the whole model under the mask, those that are left one after the other, and 0
// after them.
static void keep_heads(void *to, model_state state, int layer, const float *x) {
    if (state == STATE_HEAD_OUTPUT) memcpy(((float **)to)[layer], x, (size_t)shapes[0].E * sizeof *x);
}

static void shown_heads(void **state) {
    (void)state;
    enum { L = 4, H = 4, D = 6, E = H * D };
    rng r = rng_make(11);
    model whole, small;
    mask m;
    int32_t tokens[T];
    float shown[2][L][E];
    double want[E];
    make_source(&whole, &shapes[0], DT_F32, "source");
    random_tokens(tokens, T, V, &r);
    make_mask(&m, &whole.c, &r, 1);
    compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
    for (int k = 0; k < 2; k++) {
        float *to[L] = {shown[k][0], shown[k][1], shown[k][2], shown[k][3]};
        const model_watch w = {
            .row = T - 1, .states = 1 << STATE_RESIDUAL | 1 << STATE_HEAD_OUTPUT, .see = keep_heads, .self = to};
        model_run *run = model_run_new(k ? &small : &whole, T, 1, RUN_FORWARD);
        model_forward(run,
                      &(model_seq){.tokens = tokens,
                                   .n = T,
                                   .mask = k ? NULL : &m,
                                   .watch = &w,
                                   .targets_from = T - 1,
                                   .last_target = SEQ_NO_TARGET},
                      1);
        model_run_free(run);
    }
    for (int l = 0; l < L; l++) {
        int n = 0;
        for (int h = 0; h < H; h++)
            for (int d = 0; m.heads[l * H + h] && d < D; d++) want[n++] = (double)shown[0][l][h * D + d];
        assert_int_equal(n, D * model_units(&small.c, l, UNIT_HEADS));
        assert_agree("head outputs shown", shown[1][l], want, (size_t)n, 1e-5);
        for (; n < E; n++) assert_true(shown[1][l][n] == 0);
    }
    mask_free(&m);
    model_free(&small), model_free(&whole);
}

// Heads that a first mask drops and a second one brings back, in a model with different numbers of heads: repaired, K
// and V are those of KV_COMPUTE.
static void repair_of_layers_that_differ(void **state) {
    (void)state;
    rng r = rng_make(4);
    model whole, small;
    mask m, a, b;
    int32_t tokens[T];
    float want[V], got[V];
    double w[V];
    make_source(&whole, &shapes[0], DT_F32, "source");
    random_tokens(tokens, T, V, &r);
    for (int round = 0; round < 6; round++) {
        make_mask(&m, &whole.c, &r, round % 2);
        compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
        model_sparse_prepare(&small);
        make_mask(&a, &small.c, &r, 0);
        make_mask(&b, &small.c, &r, 4);
        model_run *run = model_run_new(&small, T, 1, RUN_FORWARD);
        for (int kv = KV_COMPUTE; kv <= KV_REPAIR; kv++) {
            kv_cache *cache = kv_cache_new_as(&small, T, (kv_policy)kv);
            const mask *use[] = {NULL, &a, &b};
            static const int length[] = {5, 7, 1};
            for (int k = 0, at = 0; k < 3; at += length[k++]) {
                model_seq s = {.tokens = tokens + at,
                               .n = length[k],
                               .prefix = cache,
                               .append = cache,
                               .mask = use[k],
                               .targets_from = length[k] - 1,
                               .last_target = SEQ_NO_TARGET};
                model_forward(run, &s, 1);
            }
            model_logits(run, 0, kv == KV_COMPUTE ? want : got);
            kv_cache_free(cache);
        }
        for (int v = 0; v < V; v++) w[v] = (double)want[v];
        assert_agree("repaired", got, w, V, 1e-5);
        model_run_free(run);
        mask_free(&a), mask_free(&b), mask_free(&m);
        model_free(&small);
    }
    model_free(&whole);
}

// ---------------------------------------------------------------- gradients
typedef struct {
    const model *m, *on;
    model_run *run;
    float *a, *z, *ha, *hz, *res;
    int rows;
    bool hess;
} taps;

// [L, rows, A] and [L, rows, F], the rows of a layer packed.
static void keep_taps(void *ctx, model_run *run, int l) {
    taps *t = ctx;
    const model_config *c = &t->m->c;
    const size_t A = (size_t)model_units(c, l, UNIT_HEADS) * (size_t)c->D, F = (size_t)model_units(c, l, UNIT_NEURONS),
                 rows = (size_t)t->rows, at = (size_t)l * rows;
    const ops *o = t->on->o;
    const float *const of[2] = {t->hess ? model_hess_tap(run, UNIT_HEADS, l) : model_grad_tap(run, UNIT_HEADS, l),
                                t->hess ? model_hess_tap(run, UNIT_NEURONS, l) : model_grad_tap(run, UNIT_NEURONS, l)};
    o->get((t->hess ? t->ha : t->a) + at * (size_t)(c->H * c->D), of[0], rows * A * sizeof(float));
    o->get((t->hess ? t->hz : t->z) + at * (size_t)c->F, of[1], rows * F * sizeof(float));
}

static void run_taps(taps *t, const model *m, const int32_t *tokens, double *loss) {
    const size_t L = (size_t)m->c.L, E = (size_t)m->c.E, A = (size_t)(m->c.H * m->c.D), F = (size_t)m->c.F;
    *t = (taps){.m = m,
                .on = m,
                .rows = T,
                .a = xcalloc(L * T * A, 4),
                .z = xcalloc(L * T * F, 4),
                .ha = xcalloc(L * T * A, 4),
                .hz = xcalloc(L * T * F, 4),
                .res = xcalloc(T * E, 4)};
    t->run = model_run_new(m, T, 2, RUN_TAPS | RUN_TANGENT);
    const model_seq s[2] = {{.tokens = tokens, .n = 7, .targets_from = 2, .last_target = SEQ_NO_OUTPUT},
                            {.tokens = tokens + 7, .n = T - 7, .targets_from = 5, .last_target = SEQ_NO_OUTPUT}};
    double logprob[T];
    model_forward(t->run, s, 2);
    model_backward(t->run, NULL, logprob, NULL, keep_taps, t);
    *loss = 0;
    for (int i = 0; i < 4 + T - 7 - 6; i++) *loss -= logprob[i];
    t->hess = true;
    const float ones[2] = {1, 1}, on_w[2] = {0.5f, 0.25f};
    model_hessian(t->run, NULL, ones, ones, curved_of(&m->arch) ? NULL : on_w, keep_taps, t);
    m->o->get(t->res, model_tap_res(t->run, 1), T * E * sizeof(float));
}

static void taps_free(taps *t) {
    model_run_free(t->run);
    free(t->a), free(t->z), free(t->ha), free(t->hz), free(t->res);
}

// Kept units of layer l of `whole` against the units of `small`.
static void agree_taps(const char *what, const float *small, const float *whole, const uint8_t *keep, int U, int D,
                       int l) {
    int units = 0, n = 0;
    for (int u = 0; u < U; u++) units += keep[u];
    if (!units) return;
    const int width = units * D;
    double *want = xmalloc((size_t)(T * width) * sizeof *want);
    for (int t = 0; t < T; t++)
        for (int u = 0; u < U; u++)
            for (int i = 0; keep[u] && i < D; i++)
                want[n++] = (double)whole[((size_t)l * T + (size_t)t) * (size_t)(U * D) + (size_t)(u * D + i)];
    assert_agree(what, small + (size_t)l * T * (size_t)(U * D), want, (size_t)n, 2e-4);
    free(want);
}

// The matrices by which heads and neurons reach the rest of a layer.
static const char *const *out_names(int type) {
    static const char *const opt[] = {"self_attn.out_proj", "fc2"},
                             *const llama[] = {"self_attn.o_proj", "mlp.down_proj"},
                             *const neox[] = {"attention.dense", "mlp.dense_4h_to_h"};
    if (type == MODEL_OPT) return opt;
    return type == MODEL_NEOX ? neox : llama;
}

static void gradients(void **state) {
    (void)state;
    rng r = rng_make(5);
    for (int shape = 0; shape < SHAPES; shape++)
        // with equal widths (mode 2) a Llama's own sizes are smaller, and so are the rows of arrays over units
        for (int mode = 0; mode < (shapes[shape].type == MODEL_OPT ? 3 : 2); mode++) {
            const model_config *c = &shapes[shape];
            const char *const *out = out_names(c->type);
            model whole, small, silent;
            mask m;
            int32_t tokens[T];
            make_source(&whole, c, DT_F32, "source");
            random_tokens(tokens, T, V, &r);
            make_mask(&m, &whole.c, &r, mode);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            // the whole model whose dropped units reach nothing
            int n;
            tensor *t = random_weights(c, 7, &n);
            for (int l = 0; l < c->L; l++) {
                char name[80];
                const int A = c->H * c->D;
                snprintf(name, sizeof name, "layers.%d.%s.weight", l, out[0]);
                float *wo = weights_find(t, n, name);
                snprintf(name, sizeof name, "layers.%d.%s.weight", l, out[1]);
                float *w2 = weights_find(t, n, name);
                for (int e = 0; e < c->E; e++) {
                    for (int i = 0; i < A; i++) wo[e * A + i] *= m.heads[l * c->H + i / c->D];
                    for (int j = 0; j < c->F; j++) w2[e * c->F + j] *= m.neurons[l * c->F + j];
                }
            }
            assert_int_equal(model_from_tensors(&silent, c, t, n), 0);
            taps few, all;
            double loss, want;
            run_taps(&few, &small, tokens, &loss);
            run_taps(&all, &silent, tokens, &want);
            assert_true(fabs(loss - want) <= 1e-5 * fabs(want));
            for (int l = 0; l < c->L; l++) {
                const uint8_t *heads = m.heads + l * c->H, *neurons = m.neurons + l * c->F;
                agree_taps("dL/da", few.a, all.a, heads, c->H, c->D, l);
                agree_taps("gradient at the neurons' tap", few.z, all.z, neurons, c->F, 1, l);
                agree_taps("(Hv)_a", few.ha, all.ha, heads, c->H, c->D, l);
                agree_taps("H v there", few.hz, all.hz, neurons, c->F, 1, l);
            }
            taps_free(&few), taps_free(&all);
            model_free(&silent), model_free(&small), model_free(&whole);
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
            model whole, small, there;
            mask m, more;
            int32_t tokens[T];
            make_source(&whole, &shapes[shape], (dtype)(mode % 3), "source");
            random_tokens(tokens, T, V, &r);
            make_mask(&m, &whole.c, &r, mode);
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            char *dir = folder("small");
            if (model_load_on(&there, dir, gpu) != 0) fail_msg("%s", err_get());
            free(dir);
            for (int sparse = 0; sparse < 2; sparse++) {
                make_mask(&more, &small.c, &r, sparse ? 0 : 4);
                all_logits(want, &small, tokens, T, &more, RUN_FORWARD, false, KV_COMPUTE);
                if (sparse) model_sparse_prepare(&there);
                all_logits(got, &there, tokens, T, sparse ? &more : NULL, RUN_FORWARD, sparse, KV_SKIP);
                agree_rows("on the CUDA table", got, want, 2, 1e-5);
                mask_free(&more);
            }
            taps a, b;
            double loss_a, loss_b;
            run_taps(&a, &small, tokens, &loss_a);
            run_taps(&b, &there, tokens, &loss_b);
            assert_true(fabs(loss_a - loss_b) <= 2e-5 * fabs(loss_a));
            for (int l = 0; l < whole.c.L; l++) {
                const int H = model_units(&small.c, l, UNIT_HEADS), F = model_units(&small.c, l, UNIT_NEURONS);
                uint8_t ones[64];
                memset(ones, 1, sizeof ones);
                // rows of a layer are packed in both: compare as one unit of the layer's width
                if (H)
                    agree_taps("dL/da", b.a + (size_t)l * T * (size_t)(small.c.H * small.c.D),
                               a.a + (size_t)l * T * (size_t)(small.c.H * small.c.D), ones, 1, H * small.c.D, 0);
                if (F)
                    agree_taps("dL/dz", b.z + (size_t)l * T * (size_t)small.c.F,
                               a.z + (size_t)l * T * (size_t)small.c.F, ones, 1, F, 0);
            }
            taps_free(&a), taps_free(&b);
            mask_free(&m);
            model_free(&there), model_free(&small), model_free(&whole);
        }
    free(want), free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(compacted_is_masked), cmocka_unit_test(shown_heads),
                                       cmocka_unit_test(repair_of_layers_that_differ), cmocka_unit_test(gradients),
                                       cmocka_unit_test(on_cuda)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
