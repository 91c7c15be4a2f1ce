// test_cuda - the CUDA table of operations against the CPU's: every operation on awkward shapes at 1e-5, guard words around every array. The library is that of
// CUDA on the CPU (tests/cuda), or the one that KIT_CUDA names. With CUDA on the CPU the operations run again with a block's threads in other
// orders (CUH_ORDER) and with streams that run at once or at random (CU_FAKE_STREAMS): a missing barrier or synchronisation shows.
#include "cuda_compare.h"
#include "ops_cpu.h"
#include "shim.h"

static const ops *cpu, *gpu;

// ---------------------------------------------------------------- arrays on both sides
enum { ARRAYS = 11, MOST_SEQS = 200 };

// A weight of random numbers in one of the stored types, on both sides.
typedef struct { weight on[2]; void *host; } both_weight;  // on[0]: CPU
static both_weight make_weight(uint64_t seed, dtype type, int rows, int cols) {
    const size_t n = (size_t)rows * (size_t)cols;
    float *x = random_floats(seed, n);
    both_weight w = {.host = x};
    if (type != DT_F32) {
        uint16_t *h = xmalloc(n * sizeof *h);
        for (size_t i = 0; i < n; i++) {
            union { float f; uint32_t u; } v = {.f = x[i]};
            const int exponent = (int)(v.u >> 23 & 255) - 127;
            if (type == DT_BF16) h[i] = (uint16_t)(v.u >> 16);
            else if (exponent < -14) h[i] = (uint16_t)(v.u >> 31 << 15 | (uint32_t)(fabsf(x[i]) * 0x1p24f));  // subnormal
            else h[i] = (uint16_t)(v.u >> 31 << 15 | (uint32_t)(exponent + 15) << 10 | (v.u >> 13 & 1023));
        }
        free(x);
        w.host = h;
    }
    void *device = gpu->alloc(n * dtype_bytes(type));
    gpu->put(device, w.host, n * dtype_bytes(type));
    w.on[0] = (weight){w.host, type, rows, cols, NULL, NULL};
    w.on[1] = (weight){device, type, rows, cols, NULL, NULL};
    return w;
}
static void free_weight(both_weight *w) {
    gpu->release((void *)(uintptr_t)w->on[1].data);
    free(w->host);
}

static double stored_value(const void *data, dtype type, int i) {
    float x;
    cpu_widen(&x, (const char *)data + (size_t)i * dtype_bytes(type), type, 1);
    return (double)x;
}

// ---------------------------------------------------------------- operations
// Sizes: E of E-wide arrays (H heads), F of F-wide ones, V of logits. w: (F, E) matrix, g and b: vectors of E, c of F, p: positions.
typedef struct {
    int E, F, H, V, rows, n, vocab;
    dtype type;
    span s[MOST_SEQS];
    attn_seq a[MOST_SEQS];
    int from[MOST_SEQS];
    const uint8_t *heads[MOST_SEQS], *neurons[MOST_SEQS];
    int32_t *tokens;
    float *scale;
    both_weight w, g, b, c, p, q;
    live_units live_heads[2], live_neurons[2], all_heads[2];  // [side]
    const uint8_t *has[2];
    int32_t *first[2];  // [n] and then the tokens again
} shape;
typedef struct { const ops *o; const shape *h; const int32_t *first; const weight *w, *g, *b, *c, *p, *q; const live_units *heads, *neurons, *all; const uint8_t *has; const float *past_k, *past_v; float **x; const void *host_w; } call;

static const attn_seq *sequences(const call *c, bool past) {
    static attn_seq s[MOST_SEQS];
    for (int i = 0; i < c->h->n; i++) {
        s[i] = c->h->a[i];
        if (past && s[i].past) s[i].past_k = c->past_k, s[i].past_v = c->past_v;
        else s[i].past = 0;
    }
    return s;
}

#define RUN(name) static void run_##name(const call *c)
#define S c->h->s, c->h->n
RUN(embed) { c->o->embed(c->x[0], c->first + c->h->n, c->w, S); }
RUN(embed_grad) { c->o->embed_grad(c->x[0], c->x[1], c->h->tokens, c->h->E, S); }
RUN(add_positions) { c->o->add_positions(c->x[0], c->p, c->first, S); }
// The caches of two spans out of three lie one behind the other in an array, each with room for six rows before.
RUN(append) {
    float *to[MOST_SEQS];
    for (int i = 0; i < c->h->n; i++) to[i] = i % 3 == 2 ? NULL : c->x[0] + (size_t)(c->h->s[i].row + 6 * i) * (size_t)c->h->E;
    c->o->append(to, c->x[1], c->h->E, c->first, S);
}
RUN(linear) {
    c->o->linear(c->x[0], c->x[1], c->w, NULL, false, S);
    c->o->linear(c->x[2], c->x[1], c->w, c->c, false, S);
    c->o->linear(c->x[3], c->x[1], c->w, c->c, true, S);
    c->o->linear(c->x[4], c->x[1], c->w, NULL, true, S);
}
RUN(linear_back) {
    c->o->linear_back(c->x[0], c->x[1], c->w, false, S);
    c->o->linear_back(c->x[2], c->x[1], c->w, true, S);
}
RUN(linear_grad) { c->o->linear_grad(c->x[0], c->x[1], c->x[2], c->x[3], c->h->F, c->h->E, S); }
// Of every span the sums of a middle stretch of rows, with and without the tangent, each divided by the size of its terms; against plain double on both sides.
RUN(weight_sums) {
    const int F = c->h->F, E = c->h->E, from = F / 3, rows = F - from - 1;
    const size_t n = (size_t)c->h->rows;
    float *host[4], *out = xcalloc((size_t)F * WSUMS * 2, sizeof *out);
    double *sums = xmalloc(sizeof *sums * (size_t)rows * WSUMS);
    for (int k = 0; k < 4; k++) {
        const size_t floats = n * (size_t)(k % 2 ? E : F);
        host[k] = xmalloc(floats * sizeof *host[k]);
        c->o->get(host[k], c->x[1 + k], floats * sizeof *host[k]);
    }
    for (int i = 0; i < c->h->n; i++)
        for (int tangent = 0; tangent < 2; tangent++) {
            const span *s = &c->h->s[i];
            c->o->weight_sums(sums, c->x[1], c->x[2], tangent ? c->x[3] : NULL, tangent ? c->x[4] : NULL, c->w, from, rows, s);
            for (int j = 0; j < rows && i < 5; j++) {
                double want[WSUMS] = {0}, size[WSUMS] = {1e-30, 1e-30, 1e-30, 1e-30};
                for (int e = 0; e < E; e++) {
                    double g = 0, h = 0;
                    for (int t = s->row; t < s->row + s->n; t++) {
                        const double dz = host[0][t * F + from + j], tdz = host[2][t * F + from + j];
                        g += dz * (double)host[1][t * E + e];
                        h += tdz * (double)host[1][t * E + e] + dz * (double)host[3][t * E + e];
                    }
                    const double w = stored_value(c->host_w, c->w->type, (from + j) * E + e), term[WSUMS] = {fabs(w * g), g * g, w * g, tangent ? w * h : 0};
                    for (int k = 0; k < WSUMS; k++) want[k] += term[k], size[k] += fabs(term[k]);
                }
                for (int k = 0; k < WSUMS; k++) {
                    const double got = sums[(size_t)j * WSUMS + (size_t)k];
                    if (!(fabs(got - want[k]) <= 2e-5 * size[k])) fail_msg("%s: weight_sums: sum %d of row %d, span %d: %.9g, want %.9g", c->o->device, k, from + j, i, got, want[k]);
                    out[((size_t)tangent * (size_t)F + (size_t)j) * WSUMS + (size_t)k] += (float)(got / size[k]);
                }
            }
        }
    c->o->put(c->x[0], out, (size_t)F * WSUMS * 2 * sizeof *out);
    for (int k = 0; k < 4; k++) free(host[k]);
    free(out), free(sums);
}
// Rows that have no correlation: zero, constant, constant but for the last digits.
static void spoil_rows(const call *c, float *x) {
    const int E = c->h->E, count = c->h->rows * E;
    float *all = xmalloc((size_t)count * sizeof *all);
    c->o->get(all, x, (size_t)count * sizeof *all);
    for (int i = 0; i < count; i++) {
        const int t = i / E;
        all[i] = t % 5 == 3 ? 0 : t % 7 == 2 ? 0.25f : t % 11 == 6 ? 3 + 1e-7f * (float)(i % E % 3) : all[i];
    }
    c->o->put(x, all, (size_t)count * sizeof *all);
    free(all);
}
static size_t squares(const shape *h) {
    size_t n = 0;
    for (int i = 0; i < h->n; i++) n += (size_t)h->s[i].n * (size_t)h->s[i].n;
    return n;
}
// Sums [n, units, USUMS] in device memory, and what became of them, as float behind *at, which moves on.
static double *make_sums(const call *c, int units) {
    const size_t count = (size_t)c->h->n * (size_t)units * USUMS;
    double *sums = c->o->alloc(count * sizeof *sums), *start = xmalloc(count * sizeof *start);
    for (size_t i = 0; i < count; i++) start[i] = 7.5;  // columns that are not asked for stay
    c->o->put(sums, start, count * sizeof *sums);
    free(start);
    return sums;
}
static void take_sums(const call *c, double *sums, int units, float **at) {
    const size_t count = (size_t)c->h->n * (size_t)units * USUMS;
    double *got = xmalloc(count * sizeof *got);
    float *narrow = xmalloc(count * sizeof *narrow);
    c->o->get(got, sums, count * sizeof *got);
    for (size_t i = 0; i < count; i++) narrow[i] = (float)got[i];
    c->o->put(*at, narrow, count * sizeof *narrow);
    *at += count;
    c->o->release(sums);
    free(got), free(narrow);
}
// Heads and neurons but for the first and last ones.
RUN(unit_sums) {
    const int E = c->h->E, F = c->h->F, H = c->h->H, heads = H > 1 ? H - 1 : 1, neurons = F - F / 3 - 1;
    const unit_taps of_heads = {c->x[1], c->x[2], c->x[3], c->x[4], E, E, E / H}, of_neurons = {c->x[5], c->x[6], c->x[7], NULL, F, 0, 1}, bare = {c->x[1], NULL, NULL, NULL, E, 0, E / H};
    const unsigned some = 1 << USUM_RELU | 1 << USUM_ON;
    double *sums[3] = {make_sums(c, heads), make_sums(c, neurons), make_sums(c, heads)};
    c->o->unit_sums(sums[0], (1 << (USUM_OUT + 1)) - 1, &of_heads, H - heads, heads, S);
    c->o->unit_sums(sums[1], (1 << USUM_OUT) - 1, &of_neurons, F / 3, neurons, S);
    c->o->unit_sums(sums[2], some, &bare, 0, heads, S);
    float *to = c->x[0];
    take_sums(c, sums[0], heads, &to), take_sums(c, sums[1], neurons, &to), take_sums(c, sums[2], heads, &to);
}
RUN(sign_dets) {
    const int E = c->h->E, H = c->h->H, heads = H > 1 ? H - 1 : 1;
    double *sums = make_sums(c, heads);
    c->o->sign_dets(sums, c->x[1], E, E / H, H - heads, heads, S);
    float *to = c->x[0];
    take_sums(c, sums, heads, &to);
}
RUN(head_spectra) {
    const int E = c->h->E, H = c->h->H, heads = H > 1 ? H - 1 : 1;
    double *sums = make_sums(c, heads);
    spoil_rows(c, c->x[1]);
    c->o->head_spectra(sums, c->x[1], E, E / H, H - heads, heads, S);
    float *to = c->x[0];
    take_sums(c, sums, heads, &to);
}
RUN(neuron_spectra) {
    const int E = c->h->E, F = c->h->F, neurons = F - F / 3 - 1;
    double *sums = make_sums(c, neurons);
    float *corr = c->o->alloc((squares(c->h) + 1) * sizeof *corr), *most = c->o->alloc((size_t)c->h->rows * sizeof *most), *to = c->x[0];
    spoil_rows(c, c->x[1]);
    c->o->correlate(corr, most, c->x[2], c->x[1], E, S);
    c->o->relu(c->x[3], c->x[3], F, S);
    c->o->neuron_spectra(sums, c->x[3], corr, most, F, F / 3, neurons, S);
    take_sums(c, sums, neurons, &to);
    c->o->release(corr), c->o->release(most);
}
RUN(correlate) {
    spoil_rows(c, c->x[2]);
    c->o->correlate(c->x[0], c->x[0] + squares(c->h), c->x[1], c->x[2], c->h->E, S);
}
RUN(norm) { c->o->norm(c->x[0], c->x[1], c->g, c->b, c->h->E, S); }
RUN(norm_back) {
    c->o->norm_back(c->x[0], c->x[1], c->x[2], c->g, c->h->E, false, S);
    c->o->norm_back(c->x[3], c->x[1], c->x[2], c->g, c->h->E, true, S);
    c->o->norm_back(c->x[4], c->x[1], c->x[4], c->g, c->h->E, false, S);  // in place, as the last norm's
}
RUN(norm_grad) { c->o->norm_grad(c->x[0], c->x[1], c->x[2], c->x[3], c->h->E, S); }
RUN(norm_jvp) { c->o->norm_jvp(c->x[0], c->x[1], c->x[2], c->g, c->h->E, S); }
RUN(norm_back_jvp) {
    c->o->norm_back_jvp(c->x[0], c->x[1], c->x[2], c->x[3], c->x[4], c->g, c->h->E, false, S);
    c->o->norm_back_jvp(c->x[5], c->x[1], c->x[2], c->x[3], c->x[4], c->g, c->h->E, true, S);
}
RUN(relu) { c->o->relu(c->x[0], c->x[1], c->h->F, S); }
RUN(gate) {
    c->o->gate(c->x[0], c->x[1], c->x[2], c->h->F, S);
    c->o->gate(c->x[3], c->x[3], c->x[2], c->h->F, S);
}
RUN(move) { c->o->move(c->x[0], c->x[1], c->h->E, S); }
RUN(add) { c->o->add(c->x[0], c->x[1], 0.7f, c->h->E, S); }
RUN(drop_units) {
    c->o->drop_units(c->x[0], c->h->heads, c->h->from, c->h->H, c->h->E / c->h->H, S);
    c->o->drop_units(c->x[1], c->h->neurons, c->h->from, c->h->F, 1, S);
}
RUN(attention) {
    c->o->attention(c->x[0], c->x[1], c->x[2], c->x[3], c->h->E, c->h->H, sequences(c, false), c->h->n);
    c->o->attention(c->x[4], c->x[1], c->x[2], c->x[3], c->h->E, c->h->H, sequences(c, true), c->h->n);
}
RUN(live_linear) {
    c->o->live_linear(c->x[0], c->x[1], c->w, c->c, true, 1, c->neurons, S);
    c->o->live_linear(c->x[2], c->x[1], c->q, NULL, false, c->h->E / c->h->H, c->heads, S);
}
RUN(live_linear_t) {
    c->o->live_linear_t(c->x[0], c->x[1], c->w, c->b, 1, c->neurons, S);
    c->o->live_linear_t(c->x[2], c->x[3], c->q, NULL, c->h->E / c->h->H, c->heads, S);
}
RUN(live_attention) {
    const int D = c->h->E / c->h->H;
    attn_seq *s = (attn_seq *)(uintptr_t)sequences(c, true);
    c->o->live_attention(c->x[0], c->x[1], c->x[2], c->x[3], c->h->E, D, c->heads, s, c->h->n);
    for (int i = 0; i < c->h->n; i++) s[i].past_has = s[i].past ? c->has : NULL;
    c->o->live_attention(c->x[4], c->x[1], c->x[2], c->x[3], c->h->E, D, c->all, s, c->h->n);
}
RUN(attention_back) {
    c->o->attention_back(c->x[0], c->x[1], c->x[2], c->x[3], c->x[4], c->x[5], c->x[6], c->h->E, c->h->H, sequences(c, false), c->h->n);
}
RUN(attention_jvp) {
    c->o->attention_jvp(c->x[0], c->x[1], c->x[2], c->x[3], c->x[4], c->x[5], c->x[6], c->h->E, c->h->H, sequences(c, false), c->h->n);
}
RUN(attention_back_jvp) {
    c->o->attention_back_jvp(c->x[0], c->x[1], c->x[2], c->x[3], c->x[4], c->x[5], c->x[6], c->x[7], c->x[8], c->x[9], c->x[10], c->h->E, c->h->H,
                             sequences(c, false), c->h->n);
}
RUN(logprob) {  // the results are host memory: they come back through an array
    double *lp = xmalloc((size_t)c->h->rows * sizeof *lp);
    int32_t *top = xmalloc((size_t)c->h->rows * sizeof *top);
    float *out = xmalloc((size_t)c->h->rows * 3 * sizeof *out);
    c->o->logprob(lp, top, c->x[1], c->h->tokens, c->h->V, c->h->vocab, c->h->rows);
    for (int i = 0; i < c->h->rows; i++) out[i] = isinf(lp[i]) ? -1e4f : (float)lp[i], out[c->h->rows + i] = (float)top[i];
    c->o->logprob(lp, NULL, c->x[1], c->h->tokens, c->h->V, c->h->V, c->h->rows);
    for (int i = 0; i < c->h->rows; i++) out[2 * c->h->rows + i] = (float)lp[i];
    c->o->put(c->x[0], out, (size_t)c->h->rows * 3 * sizeof *out);
    free(lp), free(top), free(out);
}
RUN(xent_back) { c->o->xent_back(c->x[0], c->h->tokens, c->h->scale, c->h->V, c->h->rows); }
RUN(xent_back_jvp) {
    c->o->xent_back(c->x[1], c->h->tokens, c->h->scale, c->h->V, c->h->rows);
    c->o->xent_back_jvp(c->x[0], c->x[1], c->h->tokens, c->h->scale, c->h->V, c->h->rows);
}

// arrays: the width of each, by letter: E, F, V [rows, .], m (F, E), e and f vectors, s [2, F, WSUMS], u sums of all units, q correlations of all spans and
// [rows], 3 [3, rows], 6 [rows and 6 of each span, E].
static const struct { const char *name, *arrays; void (*run)(const call *); } cases[] = {
#define CASE(name, arrays) {#name, arrays, run_##name}
    CASE(embed, "E"), CASE(embed_grad, "mE"), CASE(add_positions, "E"), CASE(append, "6E"), CASE(linear, "FEFFF"), CASE(linear_back, "EFE"), CASE(linear_grad, "mfFE"), CASE(weight_sums, "sFEFE"),
    CASE(unit_sums, "uEEEEFFF"), CASE(sign_dets, "uE"), CASE(head_spectra, "uE"), CASE(neuron_spectra, "uEEF"), CASE(correlate, "qEE"), CASE(norm, "EE"),
    CASE(norm_back, "EEEEE"), CASE(norm_grad, "eeEE"), CASE(norm_jvp, "EEE"), CASE(norm_back_jvp, "EEEEEE"), CASE(relu, "FF"), CASE(gate, "FFFF"), CASE(move, "EE"),
    CASE(add, "EE"), CASE(drop_units, "EF"), CASE(attention, "EEEEE"), CASE(live_linear, "FEE"), CASE(live_linear_t, "EFEE"), CASE(live_attention, "EEEEE"), CASE(attention_back, "EEEEEEE"), CASE(attention_jvp, "EEEEEEE"),
    CASE(attention_back_jvp, "EEEEEEEEEEE"), CASE(logprob, "3V"), CASE(xent_back, "V"), CASE(xent_back_jvp, "VV")};
enum { CASES = sizeof cases / sizeof *cases };

static size_t array_floats(char kind, const shape *h) {
    const size_t rows = (size_t)h->rows, E = (size_t)h->E, F = (size_t)h->F;
    switch (kind) {
    case 'E': return rows * E;
    case 'F': return rows * F;
    case 'V': return rows * (size_t)h->V;
    case 'm': return F * E;
    case 'e': return E;
    case 'f': return F;
    case '6': return (rows + 6 * (size_t)h->n) * E;
    case 's': return F * WSUMS * 2;
    case 'u': return (size_t)h->n * (F + 2 * (size_t)h->H) * USUMS;
    case 'q': return squares(h) + rows;
    default: return 3 * rows;
    }
}

static void run_case(int k, const shape *h, const float *past_k[2], const float *past_v[2]) {
    const int n = (int)strlen(cases[k].arrays);
    float *x[2][ARRAYS];
    char what[120];
    for (int i = 0; i < n; i++) {
        const size_t floats = array_floats(cases[k].arrays[i], h);
        float *start = random_floats(rng_hash(7, (uint64_t)k, (uint64_t)i), floats);
        for (int side = 0; side < 2; side++) x[side][i] = put_guarded(side ? gpu : cpu, start, floats);
        free(start);
    }
    for (int side = 0; side < 2; side++) {
        const call c = {side ? gpu : cpu, h, h->first[side], &h->w.on[side], &h->g.on[side], &h->b.on[side], &h->c.on[side], &h->p.on[side], &h->q.on[side], &h->live_heads[side], &h->live_neurons[side], &h->all_heads[side], h->has[side], past_k[side], past_v[side], x[side], h->w.host};
        cases[k].run(&c);
    }
    for (int i = 0; i < n; i++) {
        const size_t floats = array_floats(cases[k].arrays[i], h);
        snprintf(what, sizeof what, "%s, argument %d, E %d, F %d, D %d, %d spans, %s", cases[k].name, i, h->E, h->F, h->E / h->H, h->n, dtype_name(h->type));
        float *want = get_guarded(cpu, x[0][i], floats, what), *got = get_guarded(gpu, x[1][i], floats, what);
        agree(what, got, want, floats, 1e-5);
        free(want), free(got);
        for (int side = 0; side < 2; side++) release_guarded(side ? gpu : cpu, x[side][i]);
    }
}

static void make_live(live_units out[2], int units, int seqs, bool all, rng *r) {
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
static void free_live(live_units u[2]) {
    free((void *)(uintptr_t)u[0].unit), free((void *)(uintptr_t)u[0].wants);
    gpu->release((void *)(uintptr_t)u[1].unit);
    if (u[1].wants) gpu->release((void *)(uintptr_t)u[1].wants);
}

// Spans of lengths from `length`, with rows that belong to none between them.
static void make_shape(shape *h, int E, int F, int H, int V, dtype type, const int *length, int lengths, int n) {
    *h = (shape){.E = E, .F = F, .H = H, .V = V, .n = n, .type = type, .vocab = V - 3};
    rng r = rng_make((uint64_t)(E * 31 + n));
    for (int i = 0; i < n; i++) {
        const int rows = length[i % lengths], gap = i % 3 == 1;
        h->s[i] = (span){h->rows + gap, rows};
        h->a[i] = (attn_seq){.s = h->s[i], .from = i % 2 ? rows / 3 : 0, .past = i % 4 ? (int)rng_below(&r, 45) : 0};
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
    h->w = make_weight(1, type, F, E);
    h->g = make_weight(2, DT_F32, E, 1);
    h->b = make_weight(3, DT_F32, E, 1);
    h->c = make_weight(4, DT_F32, F, 1);
    h->p = make_weight(5, type, 100, E);
    h->q = make_weight(6, type, E, E);
    make_live(h->live_heads, H, n, false, &r);
    make_live(h->live_neurons, F, n, false, &r);
    make_live(h->all_heads, H, n, true, &r);
    uint8_t *has = xmalloc(50 * (size_t)H), *device_has = gpu->alloc(50 * (size_t)H);
    for (int i = 0; i < 50 * H; i++) has[i] = rng_uniform(&r) < 0.3 && i / H > 35 * (i % H == 0);  // of the first head a whole tile is missing
    gpu->put(device_has, has, 50 * (size_t)H);
    h->has[0] = has;
    h->has[1] = device_has;
}

static void free_shape(shape *h) {
    free_live(h->live_heads), free_live(h->live_neurons), free_live(h->all_heads), free_weight(&h->q);
    free((void *)(uintptr_t)h->has[0]);
    gpu->release((void *)(uintptr_t)h->has[1]);
    free_weight(&h->w), free_weight(&h->g), free_weight(&h->b), free_weight(&h->c), free_weight(&h->p);
    free((void *)(uintptr_t)h->heads[0]);
    free(h->first[0]), gpu->release(h->first[1]);
    free(h->tokens), free(h->scale);
}

static void every_operation(void **state) {
    (void)state;
    static const int ragged[] = {1, 33, 0, 70, 2}, short_ones[] = {1, 2};
    static const struct { int E, F, H, V; dtype type; const int *length; int lengths, n; } shapes[] = {
        {21, 31, 3, 67, DT_F32, ragged, 5, 5},        {64, 100, 2, 1000, DT_F16, ragged, 5, 4},     {96, 40, 2, 50, DT_BF16, ragged, 4, 4},
        {128, 129, 1, 300, DT_F32, ragged, 4, 2},     {160, 24, 2, 40, DT_F32, ragged, 2, 2},       {12, 24, 3, 40, DT_F32, short_ones, 2, 190}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        shape h;
        make_shape(&h, shapes[i].E, shapes[i].F, shapes[i].H, shapes[i].V, shapes[i].type, shapes[i].length, shapes[i].lengths, shapes[i].n);
        float *past = random_floats(9, 100 * (size_t)h.E);
        const size_t half = 50 * (size_t)h.E;
        float *on_gpu = put_guarded(gpu, past, 2 * half);
        const float *k[2] = {past, on_gpu}, *v[2] = {past + half, on_gpu + half};
        for (int c = 0; c < CASES; c++) run_case(c, &h, k, v);
        release_guarded(gpu, on_gpu);
        free(past);
        free_shape(&h);
    }
}

// 16-bit weights meet fp32 rows by products of 16-bit parts: under the identity every bit of the rows comes back, and a factor of 1 + 2^-10, which one
// bf16 number does not hold, is there to fp32's last digits. Of spans shorter and longer than where the ways part.
static void products_keep_every_bit(void **state) {
    (void)state;
    enum { E = 40, ROWS = 47 };
    static const uint16_t diagonal[] = {0x3c00, 0x3c01, 0x3f80};  // fp16 1, fp16 1 + 2^-10, bf16 1
    const span s[] = {{0, 5}, {6, 33}, {39, 8}};
    float *x = random_floats(31, ROWS * E), *got = xmalloc(sizeof *got * ROWS * E), *on_x = gpu->alloc(sizeof *x * ROWS * E), *on_y = gpu->alloc(sizeof *x * ROWS * E);
    for (int i = 0; i < ROWS * E; i++) x[i] = ldexpf(x[i], i % 41 - 30);
    gpu->put(on_x, x, sizeof *x * ROWS * E);
    for (int k = 0; k < 3; k++) {
        uint16_t w[E * E] = {0};
        for (int i = 0; i < E; i++) w[i * E + i] = diagonal[k];
        void *on_w = gpu->alloc(sizeof w);
        gpu->put(on_w, w, sizeof w);
        const weight at = {on_w, k < 2 ? DT_F16 : DT_BF16, E, E, NULL, NULL};
        for (int back = 0; back < 2; back++) {
            if (back) gpu->linear_back(on_y, on_x, &at, false, s, 3);
            else gpu->linear(on_y, on_x, &at, NULL, false, s, 3);
            gpu->get(got, on_y, sizeof *got * ROWS * E);
            for (int i = 0; i < 3; i++)
                for (int e = s[i].row * E; e < (s[i].row + s[i].n) * E; e++) {
                    const double want = (double)x[e] * (k == 1 ? 1 + 0x1p-10 : 1);
                    if (!(fabs((double)got[e] - want) <= (k == 1 ? 0x1p-22 * fabs(want) : 0))) fail_msg("weight %x, back %d: %.9g, want %.9g", diagonal[k], back, (double)got[e], want);
                }
        }
        gpu->release(on_w);
    }
    gpu->release(on_x), gpu->release(on_y);
    free(x), free(got);
}

static void no_operation_is_forgotten(void **state) {
    (void)state;
    static const char *const ops_names[] = {
#define X(type, name, args) #name,
        OPS(X)
#undef X
    };
    static const char *const elsewhere[] = {"alloc", "release", "put", "get", "zero", "copy", "room", "reserve", "use", "random", "transpose", "read",  // tests of their own
                                            "linear_step", "loss", "pool", "pool_back", "minmax", "cut", "feed_new", "feed_free", "feed_fill", "feed_send", "feed_take", "likeliest"};
    for (size_t i = 0; i < sizeof ops_names / sizeof *ops_names; i++) {
        bool found = false;
        for (int k = 0; k < CASES; k++) found |= strcmp(cases[k].name, ops_names[i]) == 0;
        for (size_t k = 0; k < sizeof elsewhere / sizeof *elsewhere; k++) found |= strcmp(elsewhere[k], ops_names[i]) == 0;
        if (!found) fail_msg("operation %s has no case here", ops_names[i]);
    }
}

int main(int argc, char **argv) {
    cpu = ops_cpu();
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_operation_is_forgotten), cmocka_unit_test(every_operation), cmocka_unit_test(products_keep_every_bit)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (argc > 1 || !strstr(gpu->about, "stand-in")) return bad;
    return bad | in_other_orders(argv[0]);
}
