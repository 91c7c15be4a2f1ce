// test_ops_live - the operations of layers with pruned units (model/ops/ops_live.h), as test_ops_transformer tests
// others: CUDA against the CPU, whose own numbers test_live.c checks.
#include "op_cases.h"

// Of every third span nothing; what is kept of each row, counted from 5, and again in place of the second array. The
// third is cut by the first as it was.
RUN(keep_above) {
    const int rows = c->shape->rows, F = c->shape->F;
    float above[MOST_SEQS], *x = xmalloc((size_t)rows * (size_t)F * sizeof *x),
                            *out = xcalloc((size_t)rows, sizeof *out);
    int32_t *kept = c->o->alloc((size_t)rows * sizeof *kept), *host = xmalloc((size_t)rows * sizeof *host);
    for (int i = 0; i < c->shape->n; i++) above[i] = i % 3 == 2 ? NAN : 0.3f * (float)(i % 4);
    for (int t = 0; t < rows; t++) host[t] = 5;
    c->o->put(kept, host, (size_t)rows * sizeof *kept);
    c->o->get(x, c->x[0], (size_t)rows * (size_t)F * sizeof *x);
    c->o->keep_above(c->x[2], c->x[0], kept, above, F, SPANS);
    c->o->put(kept, host, (size_t)rows * sizeof *kept);
    c->o->keep_above(c->x[0], c->x[0], kept, above, F, SPANS);
    c->o->get(host, kept, (size_t)rows * sizeof *kept);
    for (int i = 0; i < c->shape->n; i++)
        for (int t = c->shape->spans[i].row; t < c->shape->spans[i].row + c->shape->spans[i].n; t++) {
            int want = 5;
            for (int j = 0; j < F && !isnan(above[i]); j++) want += fabsf(x[t * F + j]) > above[i];
            assert_int_equal(host[t], want);
            out[t] = (float)want;
        }
    c->o->put(c->x[1], out, (size_t)rows * sizeof *out);
    c->o->release(kept);
    free(x), free(out), free(host);
}

// Of every row: the list as numbers, -1 after its end.
RUN(list_above) {
    const int F = c->shape->F;
    int32_t *list = c->o->alloc((size_t)(1 + F) * sizeof *list), *host = xmalloc((size_t)(1 + F) * sizeof *host);
    float *row = xmalloc((size_t)F * sizeof *row), *out = xmalloc((size_t)F * sizeof *out);
    for (int t = 0; t < c->shape->rows; t++) {
        float *x = c->x[0] + (size_t)t * (size_t)F;
        c->o->get(row, x, (size_t)F * sizeof *row);
        const float above = 0.4f * (float)(t % 5);
        c->o->list_above(list, x, above, F);
        c->o->get(host, list, (size_t)(1 + F) * sizeof *host);
        int n = 0;
        for (int j = 0; j < F; j++) {
            out[j] = -1;
            if (fabsf(row[j]) > above) assert_int_equal(host[1 + n++], j);
        }
        assert_int_equal(host[0], n);
        for (int k = 0; k < n; k++) out[k] = (float)host[1 + k];
        c->o->put(x, out, (size_t)F * sizeof *out);
    }
    c->o->release(list);
    free(host), free(row), free(out);
}

RUN(drop_units) {
    c->o->drop_units(c->x[0], NULL, c->shape->heads, c->shape->from, c->shape->H, c->shape->E / c->shape->H, SPANS);
    c->o->drop_units(c->x[1], c->x[2], c->shape->neurons, c->shape->from, c->shape->F, 1, SPANS);
}

RUN(live_linear) {
    c->o->live_linear(c->x[0], c->x[1], c->matrix, c->bias_f, true, 1, c->neurons, SPANS);
    c->o->live_linear(c->x[2], c->x[1], c->square, NULL, false, c->shape->E / c->shape->H, c->heads, SPANS);
}

RUN(live_linear_t) {
    c->o->live_linear_t(c->x[0], c->x[1], c->matrix, c->bias_e, 1, c->neurons, SPANS);
    c->o->live_linear_t(c->x[2], c->x[3], c->square, NULL, c->shape->E / c->shape->H, c->heads, SPANS);
}

// A KV head of its own for every query head, or one for all.
RUN(live_attention) {
    attn_heads h = {.H = c->shape->H, .K = c->shape->H, .D = c->shape->E / c->shape->H};
    for (int k = 0; k < 2; k++, h.K = 1) {
        attn_seq *s = sequences(c, true);
        c->o->live_attention(c->x[2 * k], c->x[4], c->x[5], c->x[6], &h, c->heads, s, c->shape->n);
        for (int i = 0; i < c->shape->n; i++) s[i].past_has = s[i].past ? c->past_has : NULL;
        c->o->live_attention(c->x[2 * k + 1], c->x[4], c->x[5], c->x[6], &h, c->all_heads, s, c->shape->n);
    }
}

static const op_case cases[] = {
    {.op = "drop_units", .run = run_drop_units, .arrays = {ROWS_E, ROWS_F, VECTOR_F}},
    {.op = "list_above", .run = run_list_above, .arrays = {ROWS_F}},
    {.op = "keep_above", .run = run_keep_above, .arrays = {ROWS_F, THREE_A_ROW, ROWS_F}},
    {.op = "live_linear", .run = run_live_linear, .arrays = {ROWS_F, ROWS_E, ROWS_E}},
    {.op = "live_linear_t", .run = run_live_linear_t, .arrays = {ROWS_E, ROWS_F, ROWS_E, ROWS_E}},
    {.op = "live_attention",
     .run = run_live_attention,
     .arrays = {ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
};
enum { CASES = sizeof cases / sizeof *cases };

#define OP_GROUP "ops_live.h"
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
