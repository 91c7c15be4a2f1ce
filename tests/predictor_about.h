// predictor_about - what a predictor of a small model for tests is, without numbers.
#pragma once
#include "predictor.h"

static inline predictor_info describe(const model_config *c, predictor_design d, int lag, model_state heads,
                                      model_state neurons, mode_kind mode) {
    return (predictor_info){.design = d,
                            .per_layer = d == PREDICTOR_DEJAVU || d == PREDICTOR_LOWRANK,
                            .lag = lag,
                            .state = {heads, neurons},
                            .has = {true, true},
                            .L = c->L,
                            .H = c->H,
                            .E = c->E,
                            .F = c->F,
                            .hidden = {16, 16},
                            .mode = mode,
                            .criterion = "plainact"};
}
