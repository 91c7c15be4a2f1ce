// cuda_memory_graph - operations recorded as a CUDA graph.
#pragma once
#include "ops.h"

// Gives `table` the operations that record others, where they can be had; peers: every GPU reaches the memory of every
// other.
void graph_open(ops *table, bool peers);
