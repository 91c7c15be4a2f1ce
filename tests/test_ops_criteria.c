// test_ops_criteria - what criteria are made of (model/ops/ops_criteria.h), as test_ops_transformer tests other
// operations: CUDA against the CPU; weight_sums and those over columns also against plain double on both sides. The
// formulas of the criteria: test_formulas.c.
#include "op_cases.h"

static double stored_value(const void *data, dtype type, int i) {
    float x;
    dtype_widen(&x, (const char *)data + (size_t)i * dtype_bytes(type), type, 1);
    return (double)x;
}

// Rows that have no correlation: zero, constant, constant but for the last digits.
static void spoil_rows(const op_call *c, float *x) {
    const int E = c->shape->E, count = c->shape->rows * E;
    float *all = xmalloc((size_t)count * sizeof *all);
    c->o->get(all, x, (size_t)count * sizeof *all);
    for (int i = 0; i < count; i++) {
        const int t = i / E;
        if (t % 5 == 3)
            all[i] = 0;
        else if (t % 7 == 2)
            all[i] = 0.25f;
        else if (t % 11 == 6)
            all[i] = 3 + 1e-7f * (float)(i % E % 3);
    }
    c->o->put(x, all, (size_t)count * sizeof *all);
    free(all);
}
// Sums [n, units, USUMS] in device memory, and what became of them, as float after *at, which moves on.
static double *make_sums(const op_call *c, int units) {
    const size_t count = (size_t)c->shape->n * (size_t)units * USUMS;
    double *sums = c->o->alloc(count * sizeof *sums), *start = xmalloc(count * sizeof *start);
    for (size_t i = 0; i < count; i++) start[i] = 7.5;  // columns that are not asked for stay
    c->o->put(sums, start, count * sizeof *sums);
    free(start);
    return sums;
}
static void take_sums(const op_call *c, double *sums, int units, float **at) {
    const size_t count = (size_t)c->shape->n * (size_t)units * USUMS;
    double *got = xmalloc(count * sizeof *got);
    float *narrow = xmalloc(count * sizeof *narrow);
    c->o->get(got, sums, count * sizeof *got);
    for (size_t i = 0; i < count; i++) narrow[i] = (float)got[i];
    c->o->put(*at, narrow, count * sizeof *narrow);
    *at += count;
    c->o->release(sums);
    free(got), free(narrow);
}
// For every span the sums of a middle stretch of rows, with and without the tangent, each divided by the size of its
// terms; against plain double on both sides.
RUN(weight_sums) {
    const int F = c->shape->F, E = c->shape->E, from = F / 3, rows = F - from - 1;
    const size_t n = (size_t)c->shape->rows;
    float *host[4], *out = xcalloc((size_t)F * WSUMS * 2, sizeof *out);
    const size_t bytes = sizeof(double) * (size_t)rows * WSUMS;
    double *sums = xmalloc(bytes), *on_device = c->o->alloc(bytes);
    for (int k = 0; k < 4; k++) {
        const size_t floats = n * (size_t)(k % 2 ? E : F);
        host[k] = xmalloc(floats * sizeof *host[k]);
        c->o->get(host[k], c->x[1 + k], floats * sizeof *host[k]);
    }
    for (int i = 0; i < c->shape->n; i++)
        for (int tangent = 0; tangent < 2; tangent++) {
            const span *s = &c->shape->spans[i];
            // set, or (odd spans) twice, of which the second time adds
            for (int add = 0; add <= i % 2; add++)
                c->o->weight_sums(on_device, c->x[1], c->x[2], tangent ? c->x[3] : NULL, tangent ? c->x[4] : NULL,
                                  c->matrix, from, rows, add, s);
            c->o->get(sums, on_device, bytes);
            for (size_t k = 0; k < (size_t)rows * WSUMS && i % 2; k++) sums[k] /= 2;
            for (int j = 0; j < rows && i < 5; j++) {
                double want[WSUMS] = {0}, size[WSUMS] = {1e-30, 1e-30, 1e-30, 1e-30};
                for (int e = 0; e < E; e++) {
                    double g = 0, h = 0;
                    for (int t = s->row; t < s->row + s->n; t++) {
                        const double dz = host[0][t * F + from + j], tdz = host[2][t * F + from + j];
                        g += dz * (double)host[1][t * E + e];
                        h += tdz * (double)host[1][t * E + e] + dz * (double)host[3][t * E + e];
                    }
                    const double w = stored_value(c->host_matrix, c->matrix->type, (from + j) * E + e),
                                 term[WSUMS] = {fabs(w * g), g * g, w * g, tangent ? w * h : 0};
                    for (int k = 0; k < WSUMS; k++) want[k] += term[k], size[k] += fabs(term[k]);
                }
                for (int k = 0; k < WSUMS; k++) {
                    const double got = sums[(size_t)j * WSUMS + (size_t)k];
                    if (!(fabs(got - want[k]) <= 2e-5 * size[k]))
                        fail_msg("%s: weight_sums: sum %d of row %d, span %d: %.9g, want %.9g", c->o->device, k,
                                 from + j, i, got, want[k]);
                    out[((size_t)tangent * (size_t)F + (size_t)j) * WSUMS + (size_t)k] += (float)(got / size[k]);
                }
            }
        }
    c->o->put(c->x[0], out, (size_t)F * WSUMS * 2 * sizeof *out);
    for (int k = 0; k < 4; k++) free(host[k]);
    c->o->release(on_device);
    free(out), free(sums);
}

// Heads and neurons but for the first and last ones.
RUN(unit_sums) {
    const int E = c->shape->E, F = c->shape->F, H = c->shape->H, heads = H > 1 ? H - 1 : 1, neurons = F - F / 3 - 1;
    const unit_taps of_heads = {c->x[1], c->x[2], c->x[3], c->x[4], E, E, E / H, NULL},
                    of_neurons = {c->x[5], c->x[6], c->x[7], NULL, F, 0, 1, NULL},
                    gated = {c->x[5], c->x[6], c->x[7], NULL, F, 0, 1, c->x[8]},
                    bare = {c->x[1], NULL, NULL, NULL, E, 0, E / H, NULL};
    const unsigned some = 1 << USUM_OUTPUT | 1 << USUM_ON;
    double *sums[3] = {make_sums(c, heads), make_sums(c, neurons), make_sums(c, heads)};
    c->o->unit_sums(sums[0], (1 << (USUM_OUT + 1)) - 1, &of_heads, H - heads, heads, SPANS);
    c->o->unit_sums(sums[1], (1 << USUM_OUT) - 1, &of_neurons, F / 3, neurons, SPANS);
    c->o->unit_sums(sums[2], some, &bare, 0, heads, SPANS);
    float *to = c->x[0], *to_gated = c->x[9];
    take_sums(c, sums[0], heads, &to), take_sums(c, sums[1], neurons, &to), take_sums(c, sums[2], heads, &to);
    double *gates = make_sums(c, neurons);
    c->o->unit_sums(gates, (1 << USUM_OUT) - 1, &gated, F / 3, neurons, SPANS);
    take_sums(c, gates, neurons, &to_gated);
}

// Means and sums of squared deviations of a middle stretch of columns, plain and rectified, each divided by the size of
// its terms; against plain double on both sides.
RUN(column_moments) {
    const int F = c->shape->F, from = F / 3, cols = F - from - 1, n = c->shape->n;
    const size_t count = 2 * (size_t)n * (size_t)cols, floats = (size_t)c->shape->rows * (size_t)F;
    float *x = xmalloc(floats * sizeof *x), *out = xmalloc(2 * count * sizeof *out);
    double *moments = c->o->alloc(count * sizeof *moments), *got = xmalloc(count * sizeof *got);
    c->o->get(x, c->x[1], floats * sizeof *x);
    for (int relu = 0; relu < 2; relu++) {
        c->o->column_moments(moments, c->x[1], F, relu, from, cols, SPANS);
        c->o->get(got, moments, count * sizeof *got);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < cols; j++) {
                const span *s = &c->shape->spans[i];
                const float *column = x + (size_t)s->row * (size_t)F + from + j;
                double sum = 0, square = 0;
                for (int t = 0; t < s->n; t++) {
                    const double v = relu && column[t * F] < 0 ? 0 : (double)column[t * F];
                    sum += v, square += v * v;
                }
                const double mean = s->n ? sum / s->n : 0, want[2] = {mean, square - s->n * mean * mean};
                for (size_t k = 0; k < 2; k++) {
                    const size_t at = 2 * ((size_t)i * (size_t)cols + (size_t)j) + k;
                    const double size = k ? square + 1e-30 : 1;
                    if (!(fabs(got[at] - want[k]) <= 1e-12 * size))
                        fail_msg("%s: column_moments: %s of column %d, span %d: %.17g, want %.17g", c->o->device,
                                 k ? "deviations" : "mean", from + j, i, got[at], want[k]);
                    out[(size_t)relu * count + at] = (float)(got[at] / size);
                }
            }
    }
    c->o->put(c->x[0], out, 2 * count * sizeof *out);
    c->o->release(moments);
    free(x), free(out), free(got);
}

RUN(column_squares) {
    const int F = c->shape->F, E = c->shape->E;
    double *squares = xmalloc((size_t)E * sizeof *squares);
    float *out = xmalloc((size_t)E * sizeof *out);
    c->o->column_squares(squares, c->matrix);
    for (int e = 0; e < E; e++) {
        double want = 0;
        for (int j = 0; j < F; j++) want += pow(stored_value(c->host_matrix, c->matrix->type, j * E + e), 2);
        if (!(fabs(squares[e] - want) <= 1e-12 * want))
            fail_msg("%s: column_squares: column %d: %.17g, want %.17g", c->o->device, e, squares[e], want);
        out[e] = (float)squares[e];
    }
    c->o->put(c->x[0], out, (size_t)E * sizeof *out);
    free(squares), free(out);
}

RUN(sign_dets) {
    const int E = c->shape->E, H = c->shape->H, heads = H > 1 ? H - 1 : 1;
    double *sums = make_sums(c, heads);
    c->o->sign_dets(sums, c->x[1], E, E / H, H - heads, heads, SPANS);
    float *to = c->x[0];
    take_sums(c, sums, heads, &to);
}

RUN(head_spectra) {
    const int E = c->shape->E, H = c->shape->H, heads = H > 1 ? H - 1 : 1;
    double *sums = make_sums(c, heads);
    spoil_rows(c, c->x[1]);
    c->o->head_spectra(sums, c->x[1], E, E / H, H - heads, heads, SPANS);
    float *to = c->x[0];
    take_sums(c, sums, heads, &to);
}

RUN(neuron_spectra) {
    const int E = c->shape->E, F = c->shape->F, neurons = F - F / 3 - 1;
    double *sums = make_sums(c, neurons);
    float *corr = c->o->alloc((squares(c->shape) + 1) * sizeof *corr),
          *most = c->o->alloc((size_t)c->shape->rows * sizeof *most), *to = c->x[0];
    spoil_rows(c, c->x[1]);
    c->o->correlate(corr, most, c->x[2], c->x[1], E, SPANS);
    c->o->relu(c->x[3], c->x[3], F, SPANS);
    c->o->neuron_spectra(sums, c->x[3], corr, most, F, F / 3, neurons, SPANS);
    take_sums(c, sums, neurons, &to);
    c->o->release(corr), c->o->release(most);
}

RUN(row_stats) {
    spoil_rows(c, c->x[1]);
    c->o->row_stats(c->x[0], c->x[1], c->shape->E, SPANS);
}

// Of some neurons the gradients of gate and up are equal, of some one of them is 0.
RUN(gated_spectra) {
    const int E = c->shape->E, F = c->shape->F, neurons = F - F / 3 - 1;
    double *sums = make_sums(c, neurons);
    float *corr = c->o->alloc((squares(c->shape) + 1) * sizeof *corr),
          *most = c->o->alloc((size_t)c->shape->rows * sizeof *most),
          *stat = c->o->alloc((size_t)c->shape->rows * ROW_STATS * sizeof *stat), *to = c->x[0];
    spoil_rows(c, c->x[1]);
    c->o->correlate(corr, most, c->x[2], c->x[1], E, SPANS);
    c->o->row_stats(stat, c->x[1], E, SPANS);
    for (int i = 0; i < c->shape->n; i++) {
        if (i % 3 == 1) c->o->move(c->x[4], c->x[3], F, &c->shape->spans[i], 1);
        if (i % 3 == 2) c->o->relu(c->x[3], c->x[3], F, &c->shape->spans[i], 1);
    }
    c->o->gated_spectra(sums, c->x[3], c->x[4], corr, stat, E, F, F / 3, neurons, SPANS);
    take_sums(c, sums, neurons, &to);
    c->o->release(corr), c->o->release(most), c->o->release(stat);
}

RUN(correlate) {
    spoil_rows(c, c->x[2]);
    c->o->correlate(c->x[0], c->x[0] + squares(c->shape), c->x[1], c->x[2], c->shape->E, SPANS);
}

static const op_case cases[] = {
    {.op = "weight_sums", .run = run_weight_sums, .arrays = {WEIGHT_SUMS, ROWS_F, ROWS_E, ROWS_F, ROWS_E}},
    {.op = "unit_sums",
     .run = run_unit_sums,
     .arrays = {UNIT_SUMS, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_F, ROWS_F, ROWS_F, ROWS_F, UNIT_SUMS}},
    {.op = "column_moments", .run = run_column_moments, .arrays = {UNIT_SUMS, ROWS_F}},
    {.op = "column_squares", .run = run_column_squares, .arrays = {VECTOR_E}},
    {.op = "sign_dets", .run = run_sign_dets, .arrays = {UNIT_SUMS, ROWS_E}},
    {.op = "head_spectra", .run = run_head_spectra, .arrays = {UNIT_SUMS, ROWS_E}},
    {.op = "neuron_spectra", .run = run_neuron_spectra, .arrays = {UNIT_SUMS, ROWS_E, ROWS_E, ROWS_F}},
    {.op = "row_stats", .run = run_row_stats, .arrays = {ROWS_E, ROWS_E}},
    {.op = "gated_spectra", .run = run_gated_spectra, .arrays = {UNIT_SUMS, ROWS_E, ROWS_E, ROWS_F, ROWS_F}},
    {.op = "correlate", .run = run_correlate, .arrays = {CORRELATIONS, ROWS_E, ROWS_E}},
};
enum { CASES = sizeof cases / sizeof *cases };

#define OP_GROUP "ops_criteria.h"
#define OP_ELSEWHERE
#include "op_group.h"

static void every_operation(void **state) {
    (void)state;
    run_cases(cases, CASES);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_operation_is_forgotten), cmocka_unit_test(every_operation)};
    return run_group(argc, argv, tests, sizeof tests / sizeof *tests);
}
