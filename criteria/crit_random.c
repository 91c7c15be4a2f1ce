// crit_random - the baseline: uniform in [0, 1), a function of seed, example, layer, unit and kind alone.
#include "criterion.h"

static void draw(float *out, const crit_in *in, uint64_t kind) {
    for (int u = 0; u < in->U; u++) {
        uint64_t place = (uint64_t)in->layer << 33 | (uint64_t)(in->unit + u) << 1 | kind;
        out[u] = (float)(rng_hash(in->seed, in->key, place) >> 40) * 0x1p-24f;
    }
}

static void heads(float *out, const crit_in *in) { draw(out, in, 0); }
static void neurons(float *out, const crit_in *in) { draw(out, in, 1); }

#define MODE                                                                                                           \
    { heads, neurons, 0, 0, "uniform in [0, 1)", "uniform in [0, 1)", NULL }
const criterion crit_random = {
    .name = "random", .about = "uniform random baseline", .unit = {{"1"}}, .sound = MODE, .compat = MODE};
