// model_random - models of published shapes with seeded random weights: what timing needs, because times do not depend
// on values.
#pragma once
#include "model.h"

extern const char model_shape_help[];  // help text of --shape

// The configuration of a shape: opt-125m, opt-350m, opt-1.3b .. opt-66b (Zhang et al. 2022, table 1; 350m post-LN with
// projections), pythia-70m .. pythia-12b (Biderman et al. 2023, table 1), smollm2-135m (Ben Allal et al. 2025),
// tinyllama-1.1b (Zhang et al. 2024), or of an OPT six numbers LxHxExFxVxP: layers, heads, hidden size, neurons,
// vocabulary, positions. -1 and err_set with the names there are.
int model_shape(model_config *c, const char *shape);

typedef struct {
    model m;
    tensor *t;  // in the order of arch_tensor_list, data in one block of host memory; on another device without data
    int n;
    void *block;
    size_t bytes;
} model_random;

// Weights as they are before training, made on the device: standard deviation 0.02 (uniform), gains 1, biases 0; from
// (seed, tensor, place) alone, not from where layers are, but CPU and CUDA draw by different generators (ops.h:
// random). -1 and err_set where the device has no room. model_random_free is safe on {0}.
int model_random_make(model_random *r, const model_config *c, dtype type, uint64_t seed, const ops *o);
void model_random_free(model_random *r);
size_t model_random_bytes(const model_config *c, dtype type);  // of the weights
