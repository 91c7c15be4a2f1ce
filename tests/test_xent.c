// test_xent - cross-entropy against its closed form in double, from rows that are near uniform to rows whose target has a probability of
// 1 - 1e-9: log-probabilities, and every entry of the gradient relative to itself, so that what is small keeps its digits too. On the CPU
// and, where it is built, CUDA on the CPU.
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
        if (!(fabs(lp[i] + loss) <= 1e-6 * loss)) fail_msg("%s: log-probability %.9g, want %.9g", o->device, lp[i], -loss);
        for (int j = 0; j < V; j++) {
            const double want = (j == target[i] ? -wrong : exp((double)row[j] - (double)row[target[i]]) / (1 + others)) * (double)scale[i], is = (double)got[i * V + j];
            if (!(fabs(is - want) <= 4e-6 * fabs(want))) fail_msg("%s: row %d, where the target has 1 - %.1e, column %d: %.9g, want %.9g", o->device, i, wrong, j, is, want);
        }
    }
    assert_true(least < 1e-8);
    o->release(on_device);
    free(x), free(got);
}

static void cross_entropy(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++)
        if (table[k]) cross_entropy_of(table[k]);
}

int main(void) {
    table[0] = ops_cpu();
    table[1] = shim_open();
    const struct CMUnitTest tests[] = {cmocka_unit_test(cross_entropy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
