// cuda_memory_graph - operations recorded as a CUDA graph and done again in one call (ops.h: record). A recording on
// several GPUs begins on the first one's stream; an event there takes the other streams into it, and it ends when the
// first has waited for all. Copies through the host, between GPUs that do not reach each other's memory, are not
// recorded: there everything is launched as it comes, and so it is with KIT_SYNC=1, which waits for each launch, and
// with KIT_GRAPH=0.
#include "cuda_memory_graph.h"
#include "cuda_host.h"
#include <stdlib.h>

struct recording {
    cudaGraphExec_t graph;
    size_t nodes;
};

// What the other GPUs do from here on comes after what the first has been given.
static void fork_streams(void) {
    if (n_gpus > 1) CHECK(cudaEventRecord(gpus->turn, gpus->stream));
    for (int k = 1; k < n_gpus; k++) CHECK(cudaStreamWaitEvent(gpus[k].stream, gpus->turn, 0));
}

// What the first GPU does from here on comes after what all have been given.
static void join_streams(void) {
    for (int k = 1; k < n_gpus; k++) {
        CHECK(cudaEventRecord(gpus[k].turn, gpus[k].stream));
        CHECK(cudaStreamWaitEvent(gpus->stream, gpus[k].turn, 0));
    }
}

static void set_recording(bool on) {
    for (int k = 0; k < n_gpus; k++) gpus[k].recording = on;
}

static void cuda_record(void) {
    cuda_use(0);
    CHECK(cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal));
    fork_streams();
    set_recording(true);
}

static struct recording *cuda_recorded(void) {
    cudaGraph_t all;
    struct recording *r = xcalloc(1, sizeof *r);
    cuda_use(0);
    set_recording(false);
    join_streams();
    CHECK(cudaStreamEndCapture(g->stream, &all));
    CHECK(cudaGraphGetNodes(all, NULL, &r->nodes));
    CHECK(cudaGraphInstantiate(&r->graph, all, 0));
    CHECK(cudaGraphDestroy(all));
    return r;
}

static void cuda_replay(const struct recording *r) {
    cuda_use(0);
    join_streams();
    CHECK(cudaGraphLaunch(r->graph, g->stream));
    fork_streams();
}

static int cuda_launches(const struct recording *r) { return (int)r->nodes; }

static void cuda_forget(struct recording *r) {
    if (!r) return;
    CHECK(cudaStreamSynchronize(gpus->stream));  // it may be under way
    CHECK(cudaGraphExecDestroy(r->graph));
    free(r);
}

void graph_open(ops *table, bool peers) {
    const char *wanted = getenv("KIT_GRAPH");
    if (!peers || (wanted && !atoi(wanted))) return;
    table->record = cuda_record;
    table->recorded = cuda_recorded;
    table->replay = cuda_replay;
    table->launches = cuda_launches;
    table->forget = cuda_forget;
}
