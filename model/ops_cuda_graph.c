// ops_cuda_graph - operations recorded as a CUDA graph and done again in one call (ops.h: record). On one GPU only: the layers of several are launched as
// they come, and so is everything with KIT_SYNC=1, which waits for each launch, and with KIT_GRAPH=0.
#include "ops_cuda.h"
#include <stdlib.h>

struct recording { cudaGraphExec_t graph; };

static void cuda_record(void) {
    CHECK(cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal));
    g->recording = true;
}

static struct recording *cuda_recorded(void) {
    cudaGraph_t all;
    struct recording *r = xcalloc(1, sizeof *r);
    g->recording = false;
    CHECK(cudaStreamEndCapture(g->stream, &all));
    CHECK(cudaGraphInstantiate(&r->graph, all, 0));
    CHECK(cudaGraphDestroy(all));
    return r;
}

static void cuda_replay(const struct recording *r) { CHECK(cudaGraphLaunch(r->graph, g->stream)); }

static void cuda_forget(struct recording *r) {
    if (!r) return;
    CHECK(cudaStreamSynchronize(g->stream));  // it may be under way
    CHECK(cudaGraphExecDestroy(r->graph));
    free(r);
}

void graph_open(ops *table) {
    const char *wanted = getenv("KIT_GRAPH");
    if (table->parts > 1 || (wanted && !atoi(wanted))) return;
    table->record = cuda_record;
    table->recorded = cuda_recorded;
    table->replay = cuda_replay;
    table->forget = cuda_forget;
}
