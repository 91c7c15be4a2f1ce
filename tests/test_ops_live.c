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

// Of units that none, some or all of several sequences run, of query heads' masks too: the lists by their definition.
RUN(list_live) {
    enum { SEQS = 3, HEADS = 7, KV = 3, MOST = 5000 };
    static const int sizes[] = {1, 31, 513, MOST}, reads[HEADS] = {2, 0, 0, 1, 2, 0, 0};
    const ops *o = c->o;
    int32_t *list = o->alloc((1 + MOST) * sizeof *list), *got = xmalloc((1 + MOST) * sizeof *got),
            *map = o->alloc(sizeof reads);
    uint8_t *host = xcalloc(SEQS, MOST), *keep = o->alloc(SEQS * MOST), *wants = o->alloc(SEQS * MOST),
            *wanted = xmalloc(SEQS * MOST);
    o->put(map, reads, sizeof reads);
    rng r = rng_make((uint64_t)c->shape->F);
    for (int way = 0; way < 12; way++) {
        const bool kv = way >= 8;
        const int U = kv ? KV : sizes[way / 2], seqs = way % 2 ? SEQS : 1, H = way >= 10 ? KV * 2 : HEADS;
        const attn_heads heads = {.H = H, .K = KV, .D = 1, .reads = H == HEADS ? map : NULL};
        for (int i = 0; i < SEQS * MOST; i++) host[i] = rng_below(&r, 4) == 0;
        o->put(keep, host, SEQS * MOST);
        const uint8_t *of[] = {keep, seqs > 1 ? NULL : keep, keep + 2 * MOST};
        o->list_live(list, seqs > 1 ? wants : NULL, of, seqs, U, kv ? &heads : NULL, NULL);
        o->get(got, list, (size_t)(1 + U) * sizeof *got);
        o->get(wanted, wants, (size_t)(SEQS * U));
        int n = 0;
        for (int k = 0; k < U; k++) {
            bool one[SEQS] = {false}, any = false;
            for (int i = 0; i < seqs; i++) {
                for (int h = 0; h < H && kv && i != 1; h++)
                    one[i] |= host[i * MOST + h] && (heads.reads ? reads[h] : h / 2) == k;
                if (!kv && i != 1) one[i] = host[i * MOST + k];
                any |= one[i];
            }
            if (!any) continue;
            if (n >= got[0] || got[1 + n] != k)
                fail_msg("%s: list %d, unit %d is not at place %d", o->device, way, k, n);
            for (int i = 0; i < seqs && seqs > 1; i++) assert_int_equal(wanted[n * seqs + i], one[i]);
            n++;
        }
        assert_int_equal(got[0], n);
    }
    o->release(list), o->release(keep), o->release(wants), o->release(map);
    free(got), free(host), free(wanted);
}

RUN(drop_units) {
    c->o->drop_units(c->x[0], NULL, c->shape->heads, c->shape->from, c->shape->H, c->shape->E / c->shape->H, SPANS);
    c->o->drop_units(c->x[1], c->x[2], c->shape->neurons, c->shape->from, c->shape->F, 1, SPANS);
}

// Of units that some spans run, and of units that all do.
static live_units for_all(const live_units *u) {
    live_units all = *u;
    all.wants = NULL;
    return all;
}

RUN(live_linear) {
    const live_units all = for_all(c->neurons), heads = for_all(c->heads);
    const int D = c->shape->E / c->shape->H;
    c->o->live_linear(c->x[0], c->x[1], c->matrix, c->bias_f, true, 1, c->neurons, SPANS);
    c->o->live_linear(c->x[2], c->x[1], c->square, NULL, false, D, c->heads, SPANS);
    c->o->live_linear(c->x[3], c->x[1], c->matrix, c->bias_f, true, 1, &all, SPANS);
    c->o->live_linear(c->x[4], c->x[1], c->square, c->bias_e, false, D, &heads, SPANS);
}

RUN(live_linear_t) {
    const live_units all = for_all(c->neurons), heads = for_all(c->heads);
    const int D = c->shape->E / c->shape->H;
    c->o->live_linear_t(c->x[0], c->x[1], c->matrix, c->bias_e, 1, c->neurons, SPANS);
    c->o->live_linear_t(c->x[2], c->x[3], c->square, NULL, D, c->heads, SPANS);
    c->o->live_linear_t(c->x[4], c->x[1], c->matrix, c->bias_e, 1, &all, SPANS);
    c->o->live_linear_t(c->x[5], c->x[3], c->square, NULL, D, &heads, SPANS);
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
    {.op = "list_live", .run = run_list_live, .arrays = {ROWS_F}},
    {.op = "list_above", .run = run_list_above, .arrays = {ROWS_F}},
    {.op = "keep_above", .run = run_keep_above, .arrays = {ROWS_F, THREE_A_ROW, ROWS_F}},
    {.op = "live_linear", .run = run_live_linear, .arrays = {ROWS_F, ROWS_E, ROWS_E, ROWS_F, ROWS_E}},
    {.op = "live_linear_t", .run = run_live_linear_t, .arrays = {ROWS_E, ROWS_F, ROWS_E, ROWS_E, ROWS_E, ROWS_E}},
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
