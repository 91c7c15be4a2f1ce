// crit_flap - how far what a unit adds to the residual moves about its mean. One score per task, from the moments over
// the tokens of all its examples together: each value's variance (divisor n - 1), times the squared norm of the column
// that reads it. Head: sum_i Var(a_i) |Wo[:,i]|^2. Neuron: Var(r_j) |W2[:,j]|^2.
// An et al. 2024, "Fluctuation-based adaptive structured pruning for large language models": the WIFV metric, whose
// search compares scores that are standardised within each layer.
#include "criterion.h"

static void score(double *out, const crit_pooled *in) {
    for (int u = 0; u < in->U; u++) {
        out[u] = 0;
        for (int i = u * in->D; i < (u + 1) * in->D; i++) out[u] += in->variance[i] * in->squares[i];
    }
}

const criterion crit_flap = {
    .name = "flap",
    .about = "variance of what the unit adds to the residual, per task (An 2024)",
    .unit = {{"activation^2"}},
    .by_name_only = 1,
    .pooled = score,
    .standardised = true,
    .sound = {.heads_doc = "sum_i Var(a_i) |Wo[:,i]|^2", .neurons_doc = "Var(r_j) |W2[:,j]|^2"}};
