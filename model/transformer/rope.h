// rope - the table of rotary positions (Su et al. 2021, arXiv:2104.09864), with the scalings of ckpt.h's rope_config.
#pragma once
#include "ckpt.h"

// Frequency i of D/2, of heads of which D numbers are turned: radians a position.
double rope_frequency(const rope_config *r, int D, int i);
// [positions, R], R = arch.rotary: of each position the cosines of position * f_i, i < R/2, then the sines. The caller
// frees it.
float *rope_table(const model_config *c);
