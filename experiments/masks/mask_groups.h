// mask_groups - query heads that read one KV head as one unit of a mask (METHOD 6.2): what --group-heads ranks, counts
// and prunes. The heads of a group stand together in their layer; where every head reads a KV head of its own, each is
// a group.
#pragma once
#include "model.h"

int mask_groups(const model_config *c);        // of a layer that lost no head
int *mask_groups_left(const model_config *c);  // [L] of every layer; caller frees
// mean [groups of the layer]: of each the mean of its heads' scores, score [heads of the layer].
void mask_groups_mean(double *mean, const model_config *c, int layer, const double *score);
// keep [heads of the layer]: what kept says of their groups; the absent heads of a compacted layer stay as they are.
void mask_groups_spread(uint8_t *keep, const model_config *c, int layer, const uint8_t *kept);
