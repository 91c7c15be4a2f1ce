// attn_heads - the heads of a layer's attention, for the tables of operations and the kernels: rows of q and of outputs
// hold H heads of D values side by side, rows of k and v K heads. A query head reads one KV head.
#pragma once
#include <stdint.h>

typedef struct {
    int H, K, D;
    const int32_t *reads;  // [H] the KV head of each query head, in device memory; NULL: h reads h / (H / K)
} attn_heads;

#define ATTN_KV_HEAD(heads, h) ((heads).reads ? (heads).reads[h] : (h) / ((heads).H / (heads).K))
