// minmax - numbers moved and scaled into [0, 1].
#pragma once
#include <stdbool.h>
#include <stddef.h>

// out [n] = (x - min) / (max - min); false, and zeros, where all x are equal. out may be x.
bool minmax(float *out, const float *x, size_t n);
