// norm_shape - kinds of norms over rows of E numbers, for the model's table (arch.h) and for the operations of both
// devices.
//
// To add a kind:
//   1. here                                   its name and formula
//   2. cpu_transformer_norm.c,                the value, its gradient, the tangents of both, the gradient of its gain:
//      cuda_transformer_norm.cu               whatever asks for the kind
//   3. tests/test_ops_transformer.c           its cases, on both devices
//   4. model/transformer/arch_NAME.c          the family that has it; the reader of its config.json
//   5. tests/golden/make_NAME.py              a model that another library computed; test_opt and test_grad run on it
#pragma once

typedef enum {
    NORM_LAYER,  // y = g (x - mean) / sqrt(var + eps) + b
    NORM_RMS     // y = g x / sqrt(mean x x + eps), without b
} norm_kind;

typedef struct {
    int E;
    norm_kind kind;
    float eps;
} norm_shape;
