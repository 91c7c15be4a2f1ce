// rope - the table of rotary positions. Contract in rope.h.
#include "rope.h"
#include "arch.h"
#include <math.h>
#include <stdlib.h>

double rope_frequency(const rope_config *r, int D, int i) {
    const double f = pow(r->theta, -2.0 * i / D);
    if (r->kind == ROPE_LINEAR) return f / r->factor;
    if (r->kind == ROPE_DEFAULT) return f;
    const double turns = r->old * f / (2 * M_PI);  // over the positions of the first training
    const double share = fmin(fmax((turns - r->low) / (r->high - r->low), 0), 1);
    return (1 - share) * f / r->factor + share * f;
}

float *rope_table(const model_config *c) {
    const int R = arch_of(c).rotary, half = R / 2;
    float *table = xaligned((size_t)c->positions * (size_t)R * sizeof *table);
    double *f = xmalloc((size_t)half * sizeof *f);
    for (int i = 0; i < half; i++) f[i] = rope_frequency(&c->llama.rope, R, i);
#pragma omp parallel for schedule(static)
    for (int t = 0; t < c->positions; t++)
        for (int i = 0; i < half; i++) {
            table[(size_t)t * (size_t)R + (size_t)i] = (float)cos(t * f[i]);
            table[(size_t)t * (size_t)R + (size_t)(half + i)] = (float)sin(t * f[i]);
        }
    free(f);
    return table;
}
