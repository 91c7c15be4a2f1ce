// contextual_fixture - what the tests of contextual masks share: small models, predictors of them whose scores are
// known, rules, tokens from a seed.
#pragma once
#include "opt_fixture.h"
#include "contextual.h"
#include "nets.h"
#include "predictor_about.h"

static const model_config projected = {.L = 3,
                                       .H = 2,
                                       .E = 16,
                                       .F = 24,
                                       .D = 8,
                                       .P = 12,
                                       .V = 61,
                                       .positions = 64,
                                       .pre_ln = false,
                                       .final_ln = false,
                                       .bias = true,
                                       .bos = 2,
                                       .eos = 2,
                                       .pad = 1,
                                       .declared = DT_F32};
enum { MOST = 64, UNITS = 12 + 144 };

// Nets whose output is a constant: the planted scores [L, H], [L, F].
static inline predictor *planted(const predictor_info *what, const double *heads, const double *neurons) {
    predictor *p = predictor_new(what, 1);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < p->n; i++) {
            const net *n = &p->net[k][i];
            const double *want =
                (k ? neurons : heads) + (size_t)(what->per_layer ? i + what->lag : 0) * (size_t)(k ? what->F : what->H);
            memset(n->w, 0, n->floats * sizeof *n->w);
            for (int t = 0; t < n->n; t++)
                if (strcmp(n->t[t].name, "fc2.bias") == 0)
                    for (int u = 0; u < n->out; u++) n->w[n->t[t].at + (size_t)u] = (float)want[u];
        }
    return p;
}

static inline mask_rule rule_of(mask_scope scope, long percent, mode_kind mode) {
    return (mask_rule){.scope = scope,
                       .units = mode == MODE_COMPAT ? UNITS_HEADS : UNITS_BOTH,
                       .sparsity = 1000 * percent,
                       .dense_layers = 1,
                       .mode = mode};
}

static inline void seeded_tokens(int32_t *t, int n, int V, uint64_t seed) {
    rng r = rng_make(seed);
    random_tokens(t, n, V, &r);
}
