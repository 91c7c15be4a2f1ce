// test_ops_transformer - the operations of a transformer's layers (model/ops_transformer.h): those of the CUDA table
// against the CPU's (op_cases.h). The library is that of CUDA on the CPU (tests/cuda), or the one that KIT_CUDA names.
// With CUDA on the CPU the operations run again with a block's threads in other orders (CUH_ORDER) and with streams
// that run at once or at random (CU_FAKE_STREAMS): a missing barrier or synchronisation shows.
#include "op_cases.h"

RUN(embed) { c->o->embed(c->x[0], c->first + c->shape->n, c->matrix, SPANS); }

RUN(embed_grad) { c->o->embed_grad(c->x[0], c->x[1], c->shape->tokens, c->shape->E, SPANS); }

RUN(add_positions) { c->o->add_positions(c->x[0], c->positions, c->first, SPANS); }

// The caches of two spans out of three lie one after the other in an array, each with room for six rows before.
RUN(append) {
    float *to[MOST_SEQS];
    for (int i = 0; i < c->shape->n; i++)
        to[i] = i % 3 == 2 ? NULL : c->x[0] + (size_t)(c->shape->spans[i].row + 6 * i) * (size_t)c->shape->E;
    c->o->append(to, c->x[1], c->shape->E, c->first, SPANS);
}

RUN(relu) { c->o->relu(c->x[0], c->x[1], c->shape->F, SPANS); }

RUN(gate) {
    c->o->gate(c->x[0], c->x[1], c->x[2], c->shape->F, SPANS);
    c->o->gate(c->x[3], c->x[3], c->x[2], c->shape->F, SPANS);
}

RUN(move) { c->o->move(c->x[0], c->x[1], c->shape->E, SPANS); }

RUN(add) { c->o->add(c->x[0], c->x[1], 0.7f, c->shape->E, SPANS); }

RUN(linear) {
    c->o->linear(c->x[0], c->x[1], c->matrix, NULL, false, SPANS);
    c->o->linear(c->x[2], c->x[1], c->matrix, c->bias_f, false, SPANS);
    c->o->linear(c->x[3], c->x[1], c->matrix, c->bias_f, true, SPANS);
    c->o->linear(c->x[4], c->x[1], c->matrix, NULL, true, SPANS);
}

RUN(linear_back) {
    c->o->linear_back(c->x[0], c->x[1], c->matrix, false, SPANS);
    c->o->linear_back(c->x[2], c->x[1], c->matrix, true, SPANS);
}

RUN(linear_grad) { c->o->linear_grad(c->x[0], c->x[1], c->x[2], c->x[3], c->shape->F, c->shape->E, SPANS); }

// Rows of D numbers for each head; an odd D has one less, which rotation cannot pair. Backwards, the first half of
// them.
RUN(rotate) {
    const int D = c->shape->E / c->shape->H / 2 * 2;
    const weight table = {c->x[2], DT_F32, 0, D, NULL, NULL, false};
    const weight half = {c->x[2], DT_F32, 0, (D / 2 + 1) / 2 * 2, NULL, NULL, false};
    c->o->rotate(c->x[0], D, &table, c->first, c->shape->H, false, SPANS);
    c->o->rotate(c->x[1], D, &half, c->first, c->shape->H, true, SPANS);
}

// Gated, and of an activation that gates nothing, without u.
RUN(gated) {
    for (int a = 0; a < ACTIVATIONS; a++) {
        c->o->gated(c->x[a], c->x[4], c->x[5], (activation)a, c->shape->F, SPANS);
        c->o->gated(c->x[6 + a], c->x[4], NULL, (activation)a, c->shape->F, SPANS);
    }
}

RUN(gated_back) {
    for (int a = 0; a < ACTIVATIONS; a++) {
        c->o->gated_back(c->x[a], c->x[4 + a], c->x[8], c->x[9], c->x[10], (activation)a, c->shape->F, SPANS);
        c->o->gated_back(c->x[11 + a], NULL, c->x[8], c->x[9], NULL, (activation)a, c->shape->F, SPANS);
    }
}

RUN(gated_jvp) {
    for (int a = 0; a < ACTIVATIONS; a++) {
        c->o->gated_jvp(c->x[a], c->x[4], c->x[5], c->x[6], c->x[7], (activation)a, c->shape->F, SPANS);
        c->o->gated_jvp(c->x[8 + a], c->x[4], NULL, c->x[6], NULL, (activation)a, c->shape->F, SPANS);
    }
}

RUN(gated_back_jvp) {
    for (int a = 0; a < ACTIVATIONS; a++) {
        c->o->gated_back_jvp(c->x[a], c->x[4 + a], c->x[8], c->x[9], c->x[10], c->x[11], c->x[12], c->x[13],
                             (activation)a, c->shape->F, SPANS);
        c->o->gated_back_jvp(c->x[14 + a], NULL, c->x[8], c->x[9], c->x[10], NULL, c->x[12], NULL, (activation)a,
                             c->shape->F, SPANS);
    }
}

static norm_shape layer_norm(const op_call *c) { return (norm_shape){c->shape->E, NORM_LAYER, 1e-5f}; }
static norm_shape rms_norm(const op_call *c) { return (norm_shape){c->shape->E, NORM_RMS, 1e-2f}; }

RUN(norm) {
    c->o->norm(c->x[0], c->x[1], c->gain, c->bias_e, layer_norm(c), SPANS);
    c->o->norm(c->x[2], c->x[1], c->gain, NULL, rms_norm(c), SPANS);
}

RUN(norm_back) {
    c->o->norm_back(c->x[0], c->x[1], c->x[2], c->gain, layer_norm(c), false, SPANS);
    c->o->norm_back(c->x[3], c->x[1], c->x[2], c->gain, layer_norm(c), true, SPANS);
    c->o->norm_back(c->x[4], c->x[1], c->x[4], c->gain, layer_norm(c), false, SPANS);  // in place, as the last norm's
    c->o->norm_back(c->x[5], c->x[5], c->x[2], c->gain, rms_norm(c), false, SPANS);
}

RUN(norm_grad) {
    c->o->norm_grad(c->x[0], c->x[1], c->x[2], c->x[3], layer_norm(c), SPANS);
    c->o->norm_grad(c->x[4], NULL, c->x[2], c->x[3], rms_norm(c), SPANS);
}

RUN(norm_jvp) {
    c->o->norm_jvp(c->x[0], c->x[1], c->x[2], c->gain, layer_norm(c), SPANS);
    c->o->norm_jvp(c->x[3], c->x[1], c->x[2], c->gain, rms_norm(c), SPANS);
}

RUN(norm_back_jvp) {
    c->o->norm_back_jvp(c->x[0], c->x[1], c->x[2], c->x[3], c->x[4], c->gain, layer_norm(c), false, SPANS);
    c->o->norm_back_jvp(c->x[5], c->x[1], c->x[2], c->x[3], c->x[4], c->gain, layer_norm(c), true, SPANS);
    c->o->norm_back_jvp(c->x[6], c->x[1], c->x[6], c->x[3], c->x[4], c->gain, rms_norm(c), false, SPANS);
}

// Columns of units of D that do not live, which are not defined, become 0 in the rows of y.
static void clear_pruned(const op_call *c, float *y, const live_units *u, int units, int D, int n) {
    const int width = units * D;
    const size_t bytes = (size_t)c->shape->rows * (size_t)width * sizeof *y;
    float *host = xmalloc(bytes);
    bool *lives = xmalloc((size_t)units * sizeof *lives);
    c->o->get(host, y, bytes);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < units; j++) lives[j] = false;
        for (int k = 0; k < u->n; k++) lives[u->unit[k]] = u->wants[k * u->seqs + i];
        for (int t = c->shape->spans[i].row; t < c->shape->spans[i].row + c->shape->spans[i].n; t++)
            for (int j = 0; j < width; j++) host[t * width + j] = lives[j / D] ? host[t * width + j] : 0;
    }
    c->o->put(y, host, bytes);
    free(host), free(lives);
}

// q of live heads, k and v of all, k and v into the caches of all spans but every third; of all spans, of the first
// alone, and without a norm. Heads of an even size are turned, in all or in half of their numbers.
static void maps_of(const op_call *c, float **y, const float *x, float *h, float *cache_k, float *cache_v,
                    const weight *gain, int n) {
    const int E = c->shape->E, D = E / c->shape->H;
    const weight table = {c->x[0], DT_F32, 0, D % 4 ? D : D / 2, NULL, NULL, false};
    const bool turn = D % 2 == 0;
    float *k[MOST_SEQS], *v[MOST_SEQS];
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)(c->shape->spans[i].row + 6 * i) * (size_t)E;
        k[i] = i % 3 == 2 ? NULL : cache_k + at;
        v[i] = i % 3 == 2 ? NULL : cache_v + at;
    }
    const sublayer_input in = {h, x, gain, c->bias_e, layer_norm(c)};
    const sublayer_map m[] = {{y[0], c->square, c->bias_e, D, c->heads, turn, NULL},
                              {y[1], c->square, NULL, D, NULL, turn, k},
                              {y[2], c->square, c->bias_e, D, NULL, false, v}};
    c->o->maps(&in, m, 3, turn ? &table : NULL, c->first, c->shape->spans, n);
    clear_pruned(c, y[0], &c->shape->live_heads[0], c->shape->H, D, n);
}

RUN(maps) {
    float *const *x = c->x;
    maps_of(c, c->x + 1, x[4], x[5], x[6], x[7], c->gain, c->shape->n);
    maps_of(c, c->x + 8, x[4], x[11], x[12], x[13], c->gain, 1);
    maps_of(c, c->x + 14, NULL, x[17], x[12], x[13], NULL, c->shape->n);
}

// Every activation, alone and of two maps, dense and of live neurons, of all spans or of the first alone.
RUN(hidden) {
    const size_t bytes = (size_t)c->shape->rows * (size_t)c->shape->F * sizeof(float);
    float *z = c->o->alloc(bytes), *u = c->o->alloc(bytes);
    for (int a = 0; a < 2 * ACTIVATIONS; a++) {
        const live_units *live = a % 3 == 1 ? c->neurons : NULL;
        const sublayer_input in = {
            .h = c->x[8], .x = c->x[9], .gain = a % 4 ? c->gain : NULL, .shape = a % 4 ? rms_norm(c) : (norm_shape){0}};
        const sublayer_map m[] = {{z, c->matrix, c->bias_f, 1, live, false, NULL},
                                  {u, c->matrix, NULL, 1, live, false, NULL}};
        c->o->hidden(c->x[a], &in, m, 1 + a / ACTIVATIONS, (activation)(a % ACTIVATIONS), c->shape->spans,
                     a % 2 ? c->shape->n : 1);
        if (live) clear_pruned(c, c->x[a], &c->shape->live_neurons[0], c->shape->F, 1, a % 2 ? c->shape->n : 1);
    }
    c->o->release(z), c->o->release(u);
}

// A KV head of its own for every query head, or one for all.
static attn_heads heads_of(const op_call *c, bool grouped) {
    return (attn_heads){.H = c->shape->H, .K = grouped ? 1 : c->shape->H, .D = c->shape->E / c->shape->H};
}

RUN(attention) {
    for (int k = 0; k < 4; k++) {
        const attn_heads h = heads_of(c, k > 1);
        c->o->attention(c->x[k], c->x[4], c->x[5], c->x[6], &h, sequences(c, k % 2), c->shape->n);
    }
}

RUN(attention_back) {
    for (int k = 0; k < 2; k++) {
        const attn_heads h = heads_of(c, k);
        c->o->attention_back(c->x[3 * k], c->x[3 * k + 1], c->x[3 * k + 2], c->x[6], c->x[7], c->x[8], c->x[9], &h,
                             sequences(c, false), c->shape->n);
    }
}

RUN(attention_jvp) {
    for (int k = 0; k < 2; k++) {
        const attn_heads h = heads_of(c, k);
        c->o->attention_jvp(c->x[k], c->x[2], c->x[3], c->x[4], c->x[5], c->x[6], c->x[7], &h, sequences(c, false),
                            c->shape->n);
    }
}

RUN(attention_back_jvp) {
    for (int k = 0; k < 2; k++) {
        const attn_heads h = heads_of(c, k);
        c->o->attention_back_jvp(c->x[3 * k], c->x[3 * k + 1], c->x[3 * k + 2], c->x[6], c->x[7], c->x[8], c->x[9],
                                 c->x[10], c->x[11], c->x[12], c->x[13], &h, sequences(c, false), c->shape->n);
    }
}

RUN(logprob) {  // the results are host memory: they come back through an array
    double *lp = xmalloc((size_t)c->shape->rows * sizeof *lp);
    int32_t *top = xmalloc((size_t)c->shape->rows * sizeof *top);
    float *out = xmalloc((size_t)c->shape->rows * 3 * sizeof *out);
    c->o->logprob(lp, top, c->x[1], c->shape->tokens, c->shape->V, c->shape->vocab, c->shape->rows);
    for (int i = 0; i < c->shape->rows; i++)
        out[i] = isinf(lp[i]) ? -1e4f : (float)lp[i], out[c->shape->rows + i] = (float)top[i];
    c->o->logprob(lp, NULL, c->x[1], c->shape->tokens, c->shape->V, c->shape->V, c->shape->rows);
    for (int i = 0; i < c->shape->rows; i++) out[2 * c->shape->rows + i] = (float)lp[i];
    c->o->put(c->x[0], out, (size_t)c->shape->rows * 3 * sizeof *out);
    free(lp), free(top), free(out);
}

RUN(xent_back) { c->o->xent_back(c->x[0], c->shape->tokens, c->shape->scale, c->shape->V, c->shape->rows); }

RUN(xent_back_jvp) {
    c->o->xent_back(c->x[1], c->shape->tokens, c->shape->scale, c->shape->V, c->shape->rows);
    c->o->xent_back_jvp(c->x[0], c->x[1], c->shape->tokens, c->shape->scale, c->shape->V, c->shape->rows);
}

static const op_case cases[] = {
    {.op = "embed", .run = run_embed, .arrays = {ROWS_E}},
    {.op = "embed_grad", .run = run_embed_grad, .arrays = {MATRIX_F_E, ROWS_E}},
    {.op = "add_positions", .run = run_add_positions, .arrays = {ROWS_E}},
    {.op = "append", .run = run_append, .arrays = {CACHES, ROWS_E}},
    {.op = "relu", .run = run_relu, .arrays = {ROWS_F, ROWS_F}},
    {.op = "gate", .run = run_gate, .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F}},
    {.op = "move", .run = run_move, .arrays = {ROWS_E, ROWS_E}},
    {.op = "add", .run = run_add, .arrays = {ROWS_E, ROWS_E}},
    {.op = "linear", .run = run_linear, .arrays = {ROWS_F, ROWS_E, ROWS_F, ROWS_F, ROWS_F}},
    {.op = "linear_back", .run = run_linear_back, .arrays = {ROWS_E, ROWS_F, ROWS_E}},
    {.op = "linear_grad", .run = run_linear_grad, .arrays = {MATRIX_F_E, VECTOR_F, ROWS_F, ROWS_E}},
    {.op = "rotate", .run = run_rotate, .arrays = {ROWS_E, ROWS_E, CACHES}},
    {.op = "gated",
     .run = run_gated,
     .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F}},
    {.op = "gated_back",
     .run = run_gated_back,
     .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F,
                ROWS_F, ROWS_F}},
    {.op = "gated_jvp",
     .run = run_gated_jvp,
     .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F}},
    {.op = "gated_back_jvp",
     .run = run_gated_back_jvp,
     .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F,
                ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F}},
    {.op = "norm", .run = run_norm, .arrays = {ROWS_E, ROWS_E, ROWS_E}},
    {.op = "norm_back", .run = run_norm_back, .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "norm_grad", .run = run_norm_grad, .arrays = {VECTOR_E, VECTOR_E, ROWS_E, ROWS_E, VECTOR_E}},
    {.op = "norm_jvp", .run = run_norm_jvp, .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "norm_back_jvp",
     .run = run_norm_back_jvp,
     .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "maps",
     .run = run_maps,
     .arrays = {CACHES, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, CACHES, CACHES, ROWS_E, ROWS_E, ROWS_E, ROWS_E, CACHES,
                CACHES, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "hidden",
     .run = run_hidden,
     .arrays = {ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_F, ROWS_E, ROWS_E}},
    {.op = "attention", .run = run_attention, .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "attention_back",
     .run = run_attention_back,
     .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "attention_jvp",
     .run = run_attention_jvp,
     .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
    {.op = "attention_back_jvp",
     .run = run_attention_back_jvp,
     .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E,
                ROWS_E}},
    {.op = "logprob", .run = run_logprob, .arrays = {THREE_A_ROW, ROWS_V}},
    {.op = "xent_back", .run = run_xent_back, .arrays = {ROWS_V}},
    {.op = "xent_back_jvp", .run = run_xent_back_jvp, .arrays = {ROWS_V, ROWS_V}},
};
enum { CASES = sizeof cases / sizeof *cases };

#define OP_GROUP     "ops_transformer.h"
#define OP_ELSEWHERE {.op = "likeliest", .file = "tests/test_xent.c"},
#include "op_group.h"

static void every_operation(void **state) {
    (void)state;
    run_cases(cases, CASES);
}

static double largest(const float *x, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

// 16-bit weights meet fp32 rows by products of 16-bit parts: under the identity every bit of the rows comes back, but
// for what is below 2^-60 of a row's largest number (cuda_split.cu), and a factor of 1 + 2^-10, which one bf16 number
// does not hold, is there to fp32's last digits. Spans are shorter and longer than where the ways part.
static void products_keep_every_bit(void **state) {
    (void)state;
    enum { E = 40, ROWS = 47 };
    static const uint16_t diagonal[] = {0x3c00, 0x3c01, 0x3f80};  // fp16 1, fp16 1 + 2^-10, bf16 1
    const span s[] = {{0, 5}, {6, 33}, {39, 8}};
    float *x = random_floats(31, ROWS * E), *got = xmalloc(sizeof *got * ROWS * E),
          *on_x = gpu->alloc(sizeof *x * ROWS * E), *on_y = gpu->alloc(sizeof *x * ROWS * E);
    for (int i = 0; i < ROWS * E; i++) x[i] = ldexpf(x[i], i % 41 - 30);
    gpu->put(on_x, x, sizeof *x * ROWS * E);
    for (int k = 0; k < 3; k++) {
        uint16_t w[E * E] = {0};
        for (int i = 0; i < E; i++) w[i * E + i] = diagonal[k];
        void *on_w = gpu->alloc(sizeof w);
        gpu->put(on_w, w, sizeof w);
        const weight at = {on_w, k < 2 ? DT_F16 : DT_BF16, E, E, NULL, NULL, false};
        for (int back = 0; back < 2; back++) {
            if (back)
                gpu->linear_back(on_y, on_x, &at, false, s, 3);
            else
                gpu->linear(on_y, on_x, &at, NULL, false, s, 3);
            gpu->get(got, on_y, sizeof *got * ROWS * E);
            for (int i = 0; i < 3; i++)
                for (int e = s[i].row * E; e < (s[i].row + s[i].n) * E; e++) {
                    const double want = (double)x[e] * (k == 1 ? 1 + 0x1p-10 : 1), most = largest(x + e / E * E, E);
                    const double lost = fabs(want) < 0x1p-36 * most ? 0x1p-60 * most : 0;
                    if (!(fabs((double)got[e] - want) <= lost + (k == 1 ? 0x1p-22 * fabs(want) : 0)))
                        fail_msg("weight %x, back %d: %.9g, want %.9g", diagonal[k], back, (double)got[e], want);
                }
        }
        gpu->release(on_w);
    }
    gpu->release(on_x), gpu->release(on_y);
    free(x), free(got);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_operation_is_forgotten), cmocka_unit_test(every_operation),
                                       cmocka_unit_test(products_keep_every_bit)};
    return run_group(argc, argv, tests, sizeof tests / sizeof *tests);
}
