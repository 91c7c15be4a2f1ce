// cuda_memory_graph - operations recorded as a CUDA graph and done again in one call (ops.h: record). A recording on
// several GPUs begins on the first one's stream; an event there takes the other streams into it, and it ends when the
// first has waited for all. Copies through the host, between GPUs that do not reach each other's memory, are not
// recorded: there everything is launched as it comes, and so it is with KIT_SYNC=1, which waits for each launch, and
// with KIT_GRAPH=0.
#include "cuda_memory_graph.h"
#include "cuda_host.h"
#include <stdlib.h>

struct recording {
    cudaGraph_t all;
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
    struct recording *r = xcalloc(1, sizeof *r);
    cuda_use(0);
    set_recording(false);
    join_streams();
    CHECK(cudaStreamEndCapture(g->stream, &r->all));
    CHECK(cudaGraphGetNodes(r->all, NULL, &r->nodes));
    CHECK(cudaGraphInstantiate(&r->graph, r->all, 0));
    return r;
}

static void cuda_replay(const struct recording *r) {
    cuda_use(0);
    join_streams();
    CHECK(cudaGraphLaunch(r->graph, g->stream));
    fork_streams();
}

// CUDA 13 asks for the edges' data, too.
#if CUDART_VERSION >= 13000
#define GET_EDGES(all, from, to, n) cudaGraphGetEdges(all, from, to, NULL, n)
#else
#define GET_EDGES(all, from, to, n) cudaGraphGetEdges(all, from, to, n)
#endif

// Nodes are numbered by their place among all; in a chain each waits for the one before.
static int chain_of(cudaGraph_t all, size_t nodes) {
    size_t edges = 0;
    CHECK(GET_EDGES(all, NULL, NULL, &edges));
    cudaGraphNode_t *node = xcalloc(nodes + 1, sizeof *node), *from = xcalloc(2 * edges + 1, sizeof *from),
                    *to = from + edges;
    int *length = xcalloc(nodes + 1, sizeof *length), *a = xcalloc(2 * edges + 1, sizeof *a), *b = a + edges,
        longest = 0;
    CHECK(cudaGraphGetNodes(all, node, &nodes));
    CHECK(GET_EDGES(all, from, to, &edges));
    for (size_t e = 0; e < edges; e++)
        for (size_t i = 0; i < nodes; i++) {
            if (node[i] == from[e]) a[e] = (int)i;
            if (node[i] == to[e]) b[e] = (int)i;
        }
    for (bool more = true; more;) {
        more = false;
        for (size_t e = 0; e < edges; e++)
            if (length[b[e]] < length[a[e]] + 1) length[b[e]] = length[a[e]] + 1, more = true;
    }
    for (size_t i = 0; i < nodes; i++) longest = length[i] + 1 > longest ? length[i] + 1 : longest;
    free(node), free(from), free(length), free(a);
    return longest;
}

static int cuda_chain(const struct recording *r) { return chain_of(r->all, r->nodes); }

static int cuda_launches(const struct recording *r) { return (int)r->nodes; }

static void cuda_forget(struct recording *r) {
    if (!r) return;
    CHECK(cudaStreamSynchronize(gpus->stream));  // it may be under way
    CHECK(cudaGraphExecDestroy(r->graph));
    CHECK(cudaGraphDestroy(r->all));
    free(r);
}

void graph_open(ops *table, bool peers) {
    const char *wanted = getenv("KIT_GRAPH");
    if (!peers || (wanted && !atoi(wanted))) return;
    table->record = cuda_record;
    table->recorded = cuda_recorded;
    table->replay = cuda_replay;
    table->launches = cuda_launches;
    table->chain = cuda_chain;
    table->forget = cuda_forget;
}
