// crit_wanda - size of what a unit adds to the residual: its outputs, each times the norm of the column that reads it.
// Head: sqrt sum_ti a^2 |Wo[:,i]|^2. Neuron: sqrt (sum_t r^2) |W2[:,j]|^2. Both modes alike; no gradient is read.
// Sun et al. 2023, "A simple and effective pruning approach for large language models"; for whole units An et al. 2024,
// "Fluctuation-based adaptive structured pruning" (wanda-sp).
#include "criterion.h"
#include <math.h>

static void score(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        double sum = 0;
        for (int i = u * in->D; i < (u + 1) * in->D; i++) {
            const double mean = in->moments[2 * i], off = in->moments[2 * i + 1];
            sum += (off + in->T * mean * mean) * in->squares[i];
        }
        out[u] = (float)sqrt(sum);
    }
}

#define MODE                                                                                                           \
    { score, score, CRIT_MOMENTS, CRIT_MOMENTS, "sqrt sum_ti a^2 |Wo[:,i]|^2", "sqrt (sum_t r^2) |W2[:,j]|^2", NULL }
const criterion crit_wanda = {.name = "wanda",
                              .about = "size of what the unit adds to the residual (Sun 2023, An 2024)",
                              .unit = {{"activation"}},
                              .by_name_only = 1,
                              .sound = MODE,
                              .compat = MODE};
