// cuda_compare - arrays with guard words on the CPU and on a device, and their comparison, for tests of a table of
// operations.
#pragma once
#include "opt_fixture.h"
#include "orders.h"
#include "ops.h"

enum { GUARD = 64 };
static const float guard_word = 12345.5f;

static inline float *put_guarded(const ops *o, const float *x, size_t n) {
    float *all = xmalloc((n + 2 * GUARD) * sizeof *all);
    for (size_t i = 0; i < n + 2 * GUARD; i++) all[i] = i < GUARD || i >= n + GUARD ? guard_word : x[i - GUARD];
    float *p = o->alloc((n + 2 * GUARD) * sizeof *p);
    o->put(p, all, (n + 2 * GUARD) * sizeof *p);
    free(all);
    return p + GUARD;
}

static inline float *get_guarded(const ops *o, const float *p, size_t n, const char *what) {
    float *all = xmalloc((n + 2 * GUARD) * sizeof *all);
    o->get(all, p - GUARD, (n + 2 * GUARD) * sizeof *all);
    for (int i = 0; i < GUARD; i++)
        if (all[i] != guard_word || all[n + GUARD + (size_t)i] != guard_word)
            fail_msg("%s: writes outside its array", what);
    memmove(all, all + GUARD, n * sizeof *all);
    return all;
}

static inline void release_guarded(const ops *o, float *p) { o->release(p - GUARD); }

static inline float *random_floats(uint64_t seed, size_t n) {
    rng r = rng_make(seed);
    float *x = xmalloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    return x;
}

static inline void agree(const char *what, const float *got, const float *want, size_t n, double tol) {
    double *w = xmalloc((n + 1) * sizeof *w);
    for (size_t i = 0; i < n; i++) w[i] = (double)want[i];
    assert_agree(what, got, w, n, tol);
    free(w);
}
