// mask_groups - groups of query heads. Contract in mask_groups.h.
#include "mask_groups.h"
#include <stdlib.h>

int mask_groups(const model_config *c) { return arch_of(c).kv_heads; }

int *mask_groups_left(const model_config *c) {
    int *units = xcalloc((size_t)c->L, sizeof *units);
    for (int l = 0; l < c->L; l++) units[l] = model_kv_units(c, l);
    return units;
}

void mask_groups_mean(double *mean, const model_config *c, int layer, const double *score) {
    const int H = model_units(c, layer, UNIT_HEADS);
    for (int h = 0, end; h < H; h = end) {
        const int group = model_kv_head(c, layer, h);
        double sum = 0;
        for (end = h; end < H && model_kv_head(c, layer, end) == group; end++) sum += score[end];
        mean[group] = sum / (end - h);
    }
}

void mask_groups_spread(uint8_t *keep, const model_config *c, int layer, const uint8_t *kept) {
    for (int h = 0; h < model_units(c, layer, UNIT_HEADS); h++) keep[h] = kept[model_kv_head(c, layer, h)];
}
