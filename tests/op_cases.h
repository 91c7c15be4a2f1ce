// op_cases - the operations of a group, each on awkward shapes: a device's against the CPU's at 1e-5, guard words
// around every array. A case names the operation, the arrays that it gets, and a function that calls it. For
// tests/test_ops_GROUP.c.
#pragma once
#include "convert.h"
#include "cuda_compare.h"
#include "shim.h"

static const ops *cpu, *gpu;

// ---------------------------------------------------------------- weights on both sides
// A weight of random numbers in one of the stored types, on both sides.
typedef struct {
    weight on[2];  // [side], 0: CPU
    void *host;
} both_weight;
static inline both_weight make_weight(uint64_t seed, dtype type, int rows, int cols) {
    const size_t n = (size_t)rows * (size_t)cols;
    float *x = random_floats(seed, n);
    both_weight w = {.host = x};
    if (type != DT_F32) {
        uint16_t *h = xmalloc(n * sizeof *h);
        for (size_t i = 0; i < n; i++) {
            union {
                float f;
                uint32_t u;
            } v = {.f = x[i]};
            const int exponent = (int)(v.u >> 23 & 255) - 127;
            if (type == DT_BF16)
                h[i] = (uint16_t)(v.u >> 16);
            else if (exponent < -14)
                h[i] = (uint16_t)(v.u >> 31 << 15 | (uint32_t)(fabsf(x[i]) * 0x1p24f));  // subnormal
            else
                h[i] = (uint16_t)(v.u >> 31 << 15 | (uint32_t)(exponent + 15) << 10 | (v.u >> 13 & 1023));
        }
        free(x);
        w.host = h;
    }
    void *device = gpu->alloc(n * dtype_bytes(type));
    gpu->put(device, w.host, n * dtype_bytes(type));
    w.on[0] = (weight){w.host, type, rows, cols, NULL, NULL, false};
    w.on[1] = (weight){device, type, rows, cols, NULL, NULL, false};
    return w;
}
static inline void free_weight(both_weight *w) {
    gpu->release((void *)(uintptr_t)w->on[1].data);
    free(w->host);
}

// ---------------------------------------------------------------- what a case gets
enum { OP_ARRAYS = 18, MOST_SEQS = 200 };

// A batch: spans, with rows between them that belong to none; sequences, masks and lists of live units for it; weights.
typedef struct {
    int E, F, H, V, rows, n, vocab;  // widths; heads; columns of logits, of which `vocab` count; rows in all, n spans
    dtype type;                      // of the matrices
    span spans[MOST_SEQS];
    attn_seq seqs[MOST_SEQS];
    int from[MOST_SEQS];                                   // first row of a span that is masked
    const uint8_t *heads[MOST_SEQS], *neurons[MOST_SEQS];  // masks
    int32_t *tokens;                                       // [rows] host memory, as is scale
    float *scale;
    both_weight matrix, square, positions, gain, bias_e, bias_f;
    live_units live_heads[2], live_neurons[2], all_heads[2];  // [side]
    const uint8_t *past_has[2];
    int32_t *first[2];  // [n] places, and then the tokens again
} op_shape;

// A call on one side.
typedef struct {
    const ops *o;
    const op_shape *shape;
    float **x;                                  // the arrays of the case, in its order
    const weight *matrix, *square, *positions;  // (F, E), (E, E), (100, E)
    const weight *gain, *bias_e, *bias_f;       // E, E, F in fp32
    const void *host_matrix;                    // matrix in host memory
    const int32_t *first;                       // op_shape's
    const live_units *heads, *neurons, *all_heads;
    const float *past_k, *past_v;  // [50, E], or of KV heads
    const uint8_t *past_has;       // [50, H]
} op_call;

// What a case runs: RUN(name) { c->o->name(.., SPANS); }
#define RUN(name) static void run_##name(const op_call *c)
#define SPANS     c->shape->spans, c->shape->n

// The sequences of attention, with their pasts or without; until the next call.
static inline attn_seq *sequences(const op_call *c, bool past) {
    static attn_seq s[MOST_SEQS];
    for (int i = 0; i < c->shape->n; i++) {
        s[i] = c->shape->seqs[i];
        if (past && s[i].past)
            s[i].past_k = c->past_k, s[i].past_v = c->past_v;
        else
            s[i].past = 0;
    }
    return s;
}

static inline size_t squares(const op_shape *h) {
    size_t n = 0;
    for (int i = 0; i < h->n; i++) n += (size_t)h->spans[i].n * (size_t)h->spans[i].n;
    return n;
}

typedef enum {
    NO_ARRAY,
    ROWS_E,
    ROWS_F,
    ROWS_V,      // [rows, E], [rows, F], [rows, V]
    MATRIX_F_E,  // [F, E]
    VECTOR_E,
    VECTOR_F,      // [E], [F]
    CACHES,        // [rows and 6 for each span, E]
    WEIGHT_SUMS,   // [2, F, WSUMS]
    UNIT_SUMS,     // [n, F + 2 H, USUMS]: the sums of all units
    CORRELATIONS,  // the correlations of all spans, and [rows]
    THREE_A_ROW    // [3, rows]
} op_array;

static inline size_t array_floats(op_array array, const op_shape *h) {
    const size_t rows = (size_t)h->rows, E = (size_t)h->E, F = (size_t)h->F;
    switch (array) {
    case ROWS_E: return rows * E;
    case ROWS_F: return rows * F;
    case ROWS_V: return rows * (size_t)h->V;
    case MATRIX_F_E: return F * E;
    case VECTOR_E: return E;
    case VECTOR_F: return F;
    case CACHES: return (rows + 6 * (size_t)h->n) * E;
    case WEIGHT_SUMS: return F * WSUMS * 2;
    case UNIT_SUMS: return (size_t)h->n * (F + 2 * (size_t)h->H) * USUMS;
    case CORRELATIONS: return squares(h) + rows;
    default: return 3 * rows;
    }
}

// All arrays begin as random numbers, the same on both sides, and are compared after the call.
typedef struct {
    const char *op;
    op_array arrays[OP_ARRAYS];
    void (*run)(const op_call *c);
} op_case;

// ---------------------------------------------------------------- shapes
static inline void make_live(live_units out[2], int units, int seqs, bool all, rng *r) {
    int32_t *unit = xmalloc((size_t)units * sizeof *unit);
    uint8_t *wants = xmalloc((size_t)units * (size_t)seqs);
    int n = 0;
    for (int u = 0; u < units; u++)
        if (all || u == 0 || rng_uniform(r) < 0.6) unit[n++] = u;
    for (size_t i = 0; i < (size_t)n * (size_t)seqs; i++) wants[i] = rng_uniform(r) < 0.7;
    int32_t *device_unit = gpu->alloc((size_t)n * sizeof *unit);
    uint8_t *device_wants = gpu->alloc((size_t)n * (size_t)seqs);
    gpu->put(device_unit, unit, (size_t)n * sizeof *unit);
    gpu->put(device_wants, wants, (size_t)n * (size_t)seqs);
    out[0] = (live_units){.unit = unit, .n = n, .seqs = seqs, .wants = all ? NULL : wants};
    out[1] = (live_units){.unit = device_unit, .n = n, .seqs = seqs, .wants = all ? NULL : device_wants};
    if (all) free(wants), gpu->release(device_wants);
}
static inline void free_live(live_units u[2]) {
    free((void *)(uintptr_t)u[0].unit), free((void *)(uintptr_t)u[0].wants);
    gpu->release((void *)(uintptr_t)u[1].unit);
    if (u[1].wants) gpu->release((void *)(uintptr_t)u[1].wants);
}

// Spans of lengths from `length`, with rows that belong to none between them.
static inline void make_shape(op_shape *h, int E, int F, int H, int V, dtype type, const int *length, int lengths,
                              int n) {
    *h = (op_shape){.E = E, .F = F, .H = H, .V = V, .n = n, .type = type, .vocab = V - 3};
    rng r = rng_make((uint64_t)(E * 31 + n));
    for (int i = 0; i < n; i++) {
        const int rows = length[i % lengths], gap = i % 3 == 1;
        h->spans[i] = (span){h->rows + gap, rows};
        h->seqs[i] =
            (attn_seq){.s = h->spans[i], .from = i % 2 ? rows / 3 : 0, .past = i % 4 ? (int)rng_below(&r, 45) : 0};
        h->from[i] = i % 5 ? rows / 2 : 0;
        h->rows += gap + rows;
    }
    const size_t units = (size_t)H + (size_t)F;
    uint8_t *masks = xmalloc(2 * units);
    for (size_t u = 0; u < 2 * units; u++) masks[u] = rng_uniform(&r) < 0.6;
    for (int i = 0; i < n; i++) {
        h->heads[i] = i % 3 == 2 ? NULL : masks + (size_t)(i & 1) * units;
        h->neurons[i] = i % 3 == 2 ? NULL : masks + (size_t)(i & 1) * units + H;
    }
    h->tokens = xmalloc((size_t)h->rows * sizeof *h->tokens);
    h->scale = xmalloc((size_t)h->rows * sizeof *h->scale);
    for (int t = 0; t < h->rows; t++) {
        h->tokens[t] = (int32_t)rng_below(&r, (uint64_t)(F < V ? F : V));
        h->scale[t] = 0.1f + (float)rng_uniform(&r);
    }
    const size_t places = (size_t)(n + h->rows);
    h->first[0] = xmalloc(places * sizeof(int32_t));
    h->first[1] = gpu->alloc(places * sizeof(int32_t));
    for (int i = 0; i < n; i++) h->first[0][i] = (int32_t)rng_below(&r, 7);
    memcpy(h->first[0] + n, h->tokens, (size_t)h->rows * sizeof(int32_t));
    gpu->put(h->first[1], h->first[0], places * sizeof(int32_t));
    h->matrix = make_weight(1, type, F, E);
    h->gain = make_weight(2, DT_F32, E, 1);
    h->bias_e = make_weight(3, DT_F32, E, 1);
    h->bias_f = make_weight(4, DT_F32, F, 1);
    h->positions = make_weight(5, type, 100, E);
    h->square = make_weight(6, type, E, E);
    make_live(h->live_heads, H, n, false, &r);
    make_live(h->live_neurons, F, n, false, &r);
    make_live(h->all_heads, H, n, true, &r);
    uint8_t *has = xmalloc(50 * (size_t)H), *device_has = gpu->alloc(50 * (size_t)H);
    for (int i = 0; i < 50 * H; i++)
        has[i] = rng_uniform(&r) < 0.3 && i / H > 35 * (i % H == 0);  // of the first head a whole tile is missing
    gpu->put(device_has, has, 50 * (size_t)H);
    h->past_has[0] = has;
    h->past_has[1] = device_has;
}

static inline void free_shape(op_shape *h) {
    free_live(h->live_heads), free_live(h->live_neurons), free_live(h->all_heads), free_weight(&h->square);
    free((void *)(uintptr_t)h->past_has[0]);
    gpu->release((void *)(uintptr_t)h->past_has[1]);
    free_weight(&h->matrix), free_weight(&h->gain), free_weight(&h->bias_e), free_weight(&h->bias_f),
        free_weight(&h->positions);
    free((void *)(uintptr_t)h->heads[0]);
    free(h->first[0]), gpu->release(h->first[1]);
    free(h->tokens), free(h->scale);
}

// ---------------------------------------------------------------- running
typedef struct {
    const float *k[2], *v[2];
} op_past;  // [side]

static inline void run_case(const op_case *k, int number, const op_shape *h, const op_past *past) {
    float *x[2][OP_ARRAYS];
    int n = 0;
    for (; n < OP_ARRAYS && k->arrays[n]; n++) {
        const size_t floats = array_floats(k->arrays[n], h);
        float *start = random_floats(rng_hash(7, (uint64_t)number, (uint64_t)n), floats);
        for (int side = 0; side < 2; side++) x[side][n] = put_guarded(side ? gpu : cpu, start, floats);
        free(start);
    }
    for (int side = 0; side < 2; side++) {
        const op_call c = {.o = side ? gpu : cpu,
                           .shape = h,
                           .x = x[side],
                           .matrix = &h->matrix.on[side],
                           .square = &h->square.on[side],
                           .positions = &h->positions.on[side],
                           .gain = &h->gain.on[side],
                           .bias_e = &h->bias_e.on[side],
                           .bias_f = &h->bias_f.on[side],
                           .host_matrix = h->matrix.host,
                           .first = h->first[side],
                           .heads = &h->live_heads[side],
                           .neurons = &h->live_neurons[side],
                           .all_heads = &h->all_heads[side],
                           .past_k = past->k[side],
                           .past_v = past->v[side],
                           .past_has = h->past_has[side]};
        k->run(&c);
    }
    for (int i = 0; i < n; i++) {
        char what[120];
        const size_t floats = array_floats(k->arrays[i], h);
        snprintf(what, sizeof what, "%s, argument %d, E %d, F %d, D %d, %d spans, %s", k->op, i, h->E, h->F,
                 h->E / h->H, h->n, dtype_name(h->type));
        float *want = get_guarded(cpu, x[0][i], floats, what), *got = get_guarded(gpu, x[1][i], floats, what);
        agree(what, got, want, floats, 1e-5);
        free(want), free(got);
        for (int side = 0; side < 2; side++) release_guarded(side ? gpu : cpu, x[side][i]);
    }
}

static inline void run_cases(const op_case *cases, int n) {
    static const int ragged[] = {1, 33, 0, 70, 2}, short_ones[] = {1, 2};
    static const struct {
        int E, F, H, V;
        dtype type;
        const int *length;
        int lengths, n;
    } shapes[] = {{21, 31, 3, 67, DT_F32, ragged, 5, 5},  {64, 100, 2, 1000, DT_F16, ragged, 5, 4},
                  {96, 40, 2, 50, DT_BF16, ragged, 4, 4}, {128, 129, 1, 300, DT_F32, ragged, 4, 2},
                  {160, 24, 2, 40, DT_F32, ragged, 2, 2}, {12, 24, 3, 40, DT_F32, short_ones, 2, 190}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        op_shape h;
        make_shape(&h, shapes[i].E, shapes[i].F, shapes[i].H, shapes[i].V, shapes[i].type, shapes[i].length,
                   shapes[i].lengths, shapes[i].n);
        float *numbers = random_floats(9, 100 * (size_t)h.E);
        const size_t half = 50 * (size_t)h.E;
        float *on_gpu = put_guarded(gpu, numbers, 2 * half);
        const op_past past = {.k = {numbers, on_gpu}, .v = {numbers + half, on_gpu + half}};
        for (int c = 0; c < n; c++) run_case(&cases[c], c, &h, &past);
        release_guarded(gpu, on_gpu);
        free(numbers);
        free_shape(&h);
    }
}

// The group's tests, and on CUDA on the CPU its operations in other orders.
static inline int run_group(int argc, char **argv, const struct CMUnitTest *tests, size_t n) {
    cpu = ops_cpu();
    gpu = shim_open();
    if (!gpu) return 77;
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const int bad = _cmocka_run_group_tests("operations", tests, n, NULL, NULL) != 0;
    if (argc > 1 || !strstr(gpu->about, "stand-in")) return bad;
    return bad | in_other_orders(argv[0]);
}
