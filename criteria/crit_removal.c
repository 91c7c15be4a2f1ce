// crit_removal - the exact oracle: L(unit's output set to zero) - L, one forward pass per unit, which the driver makes.
#include "criterion.h"

static void removal(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)in->removal[u];
}

#define MODE                                                                                                           \
    { removal, removal, CRIT_REMOVAL, CRIT_REMOVAL, "L(head removed) - L", "L(neuron removed) - L", NULL }
const criterion crit_removal = {.name = "removal",
                                .about = "exact loss change when the unit is removed",
                                .unit = {{"nats"}},
                                .by_name_only = 1,
                                .sound = MODE,
                                .compat = MODE};
