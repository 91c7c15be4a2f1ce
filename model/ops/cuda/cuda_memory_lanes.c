// cuda_memory_lanes - work beside the computation (ops_memory.h: aside): a stream for each lane, which events join with
// the stream of the GPU. Recorded, they become branches of the graph. With several GPUs, whose streams wait for one
// another at every border, all work is in order.
#include "cuda_host.h"

static bool has_lanes(void) { return n_gpus == 1; }

void cuda_aside(int lane) {
    ASSERT(!g->aside && lane >= 0 && lane < OPS_LANES);
    if (!has_lanes()) return;
    gpu_lane *to = &g->lane[lane];
    g->aside = to;
    g->computes = (gpu_lane){.stream = g->stream, .work = g->work, .work_bytes = g->work_bytes};
    ASSERT(g->work_depth == 0);
    CHECK(cudaEventRecord(g->turn, g->stream));
    CHECK(cudaStreamWaitEvent(to->stream, g->turn, 0));
    g->stream = to->stream;
    g->work = to->work;
    g->work_bytes = to->work_bytes;
}

void cuda_back(void) {
    if (!g->aside) return;
    ASSERT(g->work_depth == 0);
    g->stream = g->computes.stream;
    g->work = g->computes.work;
    g->work_bytes = g->computes.work_bytes;
    g->aside = NULL;
}

// Tickets of a lane count from 1 and take its events in turn.
long cuda_mark(void) {
    if (!g->aside) return 0;
    gpu_lane *of = g->aside;
    const long count = ++of->marks;
    CHECK(cudaEventRecord(of->done[count % LANE_EVENTS], of->stream));
    return count * OPS_LANES + (of - g->lane);
}

// Of a ticket whose event has been taken again, the oldest that has not is a later one.
void cuda_join(long ticket) {
    if (!ticket) return;
    const gpu_lane *of = &g->lane[ticket % OPS_LANES];
    long count = ticket / OPS_LANES;
    ASSERT(!g->aside && count > 0 && count <= of->marks);
    if (count <= of->marks - LANE_EVENTS) count = of->marks - LANE_EVENTS + 1;
    CHECK(cudaStreamWaitEvent(g->stream, of->done[count % LANE_EVENTS], 0));
}
