// cuda_memory_fetch - downloads beside the computation (ops.h: fetch_new), into pinned memory, in order with the stream
// of the part whose memory it is. What is waited for is the last of them, not the operations after it, so that the GPU
// has work while the host reads.
#include "cuda_host.h"
#include <stdlib.h>

struct fetch {
    fetch_places to;
    cudaEvent_t here[OPS_PARTS];  // of each part
    bool under_way[OPS_PARTS];
};

struct fetch *cuda_fetch_new(size_t bytes) {
    struct fetch *f = xcalloc(1, sizeof *f);
    gpu *now = g;
    void *p = NULL;
    CHECK(cudaMallocHost(&p, bytes ? bytes : 1));
    f->to = (fetch_places){.host = p, .bytes = bytes};
    for (int k = 0; k < n_gpus; k++) {
        gpu_enter(&gpus[k]);
        CHECK(cudaEventCreateWithFlags(&f->here[k], cudaEventDisableTiming));
    }
    gpu_enter(now);
    return f;
}

static void wait(struct fetch *f) {
    for (int k = 0; k < n_gpus; k++) {
        if (f->under_way[k]) CHECK(cudaEventSynchronize(f->here[k]));
        f->under_way[k] = false;
    }
}

void cuda_fetch_free(struct fetch *f) {
    if (!f) return;
    wait(f);
    for (int k = 0; k < n_gpus; k++) CHECK(cudaEventDestroy(f->here[k]));
    CHECK(cudaFreeHost(f->to.host));
    free(f);
}

const void *cuda_fetch(struct fetch *f, const void *device, size_t bytes) {
    void *to = fetch_next(&f->to, bytes);
    if (!bytes) return to;
    gpu *now = g;
    gpu_enter(gpu_owner(device));
    CHECK(cudaMemcpyAsync(to, device, bytes, cudaMemcpyDeviceToHost, g->stream));
    CHECK(cudaEventRecord(f->here[g - gpus], g->stream));
    f->under_way[g - gpus] = true;
    gpu_enter(now);
    return to;
}

void cuda_fetch_wait(struct fetch *f) {
    f->to.waited = true;
    wait(f);
    gpu_check_numbers();
}
