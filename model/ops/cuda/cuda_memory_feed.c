// cuda_memory_feed - uploads on a stream of their own, beside the computation (ops.h: feed_new): from one of two pinned
// buffers into one of two in device memory.
//
// Three waits keep a buffer whole. The host fills a pinned one when its last upload has left it. An upload begins when
// the operations that were enqueued before the other buffer was taken are done: they are the last that read its own.
// Operations after a take begin when what they take has arrived.
#include "cuda_host.h"
#include <stdlib.h>

struct feed {
    gpu *of;
    cudaStream_t copies;
    char *pinned[2], *device[2];
    cudaEvent_t arrived[2], read[2];
    int taken;
};

struct feed *cuda_feed_new(size_t bytes) {
    struct feed *f = xcalloc(1, sizeof *f);
    f->of = g;
    CHECK(cudaStreamCreateWithFlags(&f->copies, cudaStreamNonBlocking));
    for (int k = 0; k < 2; k++) {
        void *p = NULL;
        CHECK(cudaMallocHost(&p, bytes));
        f->pinned[k] = p;
        f->device[k] = cuda_alloc(bytes);
        CHECK(cudaEventCreateWithFlags(&f->arrived[k], cudaEventDisableTiming));
        CHECK(cudaEventCreateWithFlags(&f->read[k], cudaEventDisableTiming));
        CHECK(cudaEventRecord(f->read[k], g->stream));  // after the zeros of cuda_alloc
    }
    return f;
}

void cuda_feed_free(struct feed *f) {
    if (!f) return;
    CHECK(cudaStreamSynchronize(f->copies));
    for (int k = 0; k < 2; k++) {
        CHECK(cudaFreeHost(f->pinned[k]));
        cuda_release(f->device[k]);
        CHECK(cudaEventDestroy(f->arrived[k]));
        CHECK(cudaEventDestroy(f->read[k]));
    }
    CHECK(cudaStreamDestroy(f->copies));
    free(f);
}

void *cuda_feed_fill(struct feed *f) {
    const int next = f->taken ^ 1;
    CHECK(cudaEventSynchronize(f->arrived[next]));
    return f->pinned[next];
}

void cuda_feed_send(struct feed *f, size_t bytes) {
    const int next = f->taken ^ 1;
    CHECK(cudaStreamWaitEvent(f->copies, f->read[next], 0));
    CHECK(cudaMemcpyAsync(f->device[next], f->pinned[next], bytes, cudaMemcpyHostToDevice, f->copies));
    CHECK(cudaEventRecord(f->arrived[next], f->copies));
}

void *cuda_feed_take(struct feed *f) {
    CHECK(cudaEventRecord(f->read[f->taken], f->of->stream));
    f->taken ^= 1;
    CHECK(cudaStreamWaitEvent(f->of->stream, f->arrived[f->taken], 0));
    return f->device[f->taken];
}
