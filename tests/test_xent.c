// test_xent - cross-entropy against its closed form in double, from rows that are near uniform to rows whose target has
// a probability of 1 - 1e-9: log-probabilities, and every entry of the gradient relative to itself, so that what is
// small keeps its digits too; and the likeliest token, by its definition. On the CPU and, where it is built, CUDA on
// the CPU.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "shim.h"

enum { V = 3001, ROWS = 12 };
static const ops *table[2];

// Logits whose target leads by row's margin; ties of the largest in the last row.
static void make_rows(float *x, int32_t *target) {
    rng r = rng_make(5);
    for (int i = 0; i < ROWS; i++) {
        float most = -1e30f;
        for (int j = 0; j < V; j++) {
            x[i * V + j] = 25 + 2 * (float)rng_normal(&r);
            most = x[i * V + j] > most ? x[i * V + j] : most;
        }
        target[i] = (int32_t)rng_below(&r, V);
        if (i) x[i * V + target[i]] = most + 2.5f * (float)(i - 1);
    }
    for (int j = 0; j < 3; j++) x[(ROWS - 1) * V + (target[ROWS - 1] + 7 * j) % V] = 60;
}

static void cross_entropy_of(const ops *o) {
    float *x = xmalloc(sizeof *x * ROWS * V), *got = xmalloc(sizeof *got * ROWS * V), scale[ROWS];
    int32_t target[ROWS], top[ROWS];
    double lp[ROWS], least = 1;
    make_rows(x, target);
    for (int i = 0; i < ROWS; i++) scale[i] = 1.0f / (float)(1 + i);
    float *on_device = o->alloc(sizeof *x * ROWS * V);
    o->put(on_device, x, sizeof *x * ROWS * V);
    o->logprob(lp, top, on_device, target, V, V, ROWS);
    o->xent_back(on_device, target, scale, V, ROWS);
    o->get(got, on_device, sizeof *got * ROWS * V);
    for (int i = 0; i < ROWS; i++) {
        const float *row = x + i * V;
        double others = 0;  // relative to the target's term
        for (int j = 0; j < V; j++)
            if (j != target[i]) others += exp((double)row[j] - (double)row[target[i]]);
        const double loss = log1p(others), wrong = others / (1 + others);
        least = wrong < least ? wrong : least;
        if (!(fabs(lp[i] + loss) <= 1e-6 * loss))
            fail_msg("%s: log-probability %.9g, want %.9g", o->device, lp[i], -loss);
        for (int j = 0; j < V; j++) {
            const double want =
                             (j == target[i] ? -wrong : exp((double)row[j] - (double)row[target[i]]) / (1 + others)) *
                             (double)scale[i],
                         is = (double)got[i * V + j];
            if (!(fabs(is - want) <= 4e-6 * fabs(want)))
                fail_msg("%s: row %d, where the target has 1 - %.1e, column %d: %.9g, want %.9g", o->device, i, wrong,
                         j, is, want);
        }
    }
    assert_true(least < 1e-8);
    o->release(on_device);
    free(x), free(got);
}

// Rows of every sort side by side, each ended by what is no part of it; positions go up by one.
static void likeliest_of(const ops *o) {
    enum { SORTS = 8, MOST = 3001, SPARE = 3 };
    static const int widths[] = {1, 5, 31, 257, MOST};
    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        const int n = widths[k];
        const size_t floats = (size_t)(SORTS * n);
        rng r = rng_make((uint64_t)n);
        float *x = xmalloc(floats * sizeof *x), *logits = o->alloc(floats * sizeof *logits);
        int32_t want[SORTS], got[2][SORTS + SPARE], *token[2];
        for (int i = 0; i < SORTS; i++) {
            float *row = x + i * n;
            // all equal; many ties; all below zero
            for (int j = 0; j < n; j++)
                if (i == 1)
                    row[j] = -7;
                else
                    row[j] = i == 2 ? (float)rng_below(&r, 3) : (float)rng_normal(&r) - 50;
            const int at = (int)rng_below(&r, (uint64_t)n);
            if (i >= 3 && i < 6) row[at] = (float[]){NAN, INFINITY, -INFINITY}[i - 3];
            if (i == 6) row[n - 1] = 3;
            if (i == 7) row[0] = row[n / 2] = row[n - 1] = 3;
            want[i] = 0;
            for (int j = 1; j < n; j++)
                if (row[j] > row[want[i]]) want[i] = j;
            if (i >= 3 && i < 6) want[i] = -1;
        }
        o->put(logits, x, floats * sizeof *x);
        for (int which = 0; which < 2; which++) {
            int32_t begin[SORTS + SPARE];
            for (int i = 0; i < SORTS + SPARE; i++) begin[i] = 100 * i;
            token[which] = o->alloc(sizeof begin);
            o->put(token[which], begin, sizeof begin);
        }
        o->likeliest(token[0], NULL, logits, n, SORTS);
        o->likeliest(token[0], token[1], logits, n, SORTS);
        for (int which = 0; which < 2; which++) o->get(got[which], token[which], sizeof got[which]);
        for (int i = 0; i < SORTS + SPARE; i++) {
            const int32_t best = i < SORTS ? want[i] : 100 * i, at = 100 * i + (i < SORTS);
            if (got[0][i] != best || got[1][i] != at)
                fail_msg("%s: row %d of %d logits: the likeliest is %d, want %d; position %d, want %d", o->device, i, n,
                         got[0][i], best, got[1][i], at);
        }
        o->release(logits), o->release(token[0]), o->release(token[1]);
        free(x);
    }
}

static void likeliest(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++)
        if (table[k]) likeliest_of(table[k]);
}

static void cross_entropy(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++)
        if (table[k]) cross_entropy_of(table[k]);
}

int main(void) {
    table[0] = ops_cpu();
    table[1] = shim_open();
    const struct CMUnitTest tests[] = {cmocka_unit_test(cross_entropy), cmocka_unit_test(likeliest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
