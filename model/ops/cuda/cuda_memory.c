// cuda_memory - operations on memory of GPUs, each with its own stream and memory: blocks and copies.
//
// Work is in stream order within a part. The host waits where an operation hands it numbers (get, logprob) and where
// pinned memory is used again. A copy between parts runs on the sender's stream, after what the receiver's stream
// holds, which waits for it in turn.
#include "cuda_host.h"
#include <stdio.h>
#include <string.h>

const char *cuda_use(int part) {
    static char text[400];
    ASSERT(part >= 0 && part < n_gpus);
    gpu_enter(&gpus[part]);
    snprintf(text, sizeof text, "%s (%s)", g->name, g->about);
    return text;
}

void *cuda_alloc(size_t bytes) {
    bytes = gpu_rounded(bytes ? bytes : 1);
    int i = 0;
    while (i < g->n_segments && g->segment[i].bytes - g->segment[i].used < bytes) i++;
    if (i == g->n_segments) gpu_add_segment(bytes);
    segment *s = &g->segment[i];
    void *p = s->base + s->used;
    s->used += bytes;
    s->live++;
    CHECK(cudaMemsetAsync(p, 0, bytes, g->stream));
    return p;
}

void cuda_release(void *p) {
    if (!p) return;
    gpu *now = g;
    gpu_enter(gpu_owner(p));
    segment *s = gpu_segment_in(g, p);
    if (--s->live == 0) {
        for (int k = 0; k < n_gpus; k++) {  // a copy from or to it may be under way
            gpu_enter(&gpus[k]);
            CHECK(cudaStreamSynchronize(g->stream));
        }
        gpu_enter(gpu_owner(p));
        CHECK(cudaFree(s->base));
        *s = g->segment[--g->n_segments];
    }
    gpu_enter(now);
}

size_t cuda_room(void) {
    size_t left = 0, all = 0;
    CHECK(cudaMemGetInfo(&left, &all));
    return left;
}

void cuda_reserve(size_t bytes) { gpu_add_segment(gpu_rounded(bytes)); }

void cuda_zero(void *p, size_t bytes) {
    if (!bytes) return;
    gpu *now = g;
    gpu_enter(gpu_owner(p));
    CHECK(cudaMemsetAsync(p, 0, bytes, g->stream));
    gpu_enter(now);
}

void cuda_copy(void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    gpu *now = g, *sender = gpu_owner(from), *receiver = gpu_owner(to);
    if (sender == receiver) {
        gpu_enter(sender);
        CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, g->stream));
    } else {
        gpu_enter(receiver);
        CHECK(cudaEventRecord(receiver->turn, receiver->stream));
        gpu_enter(sender);
        CHECK(cudaStreamWaitEvent(sender->stream, receiver->turn, 0));
        // cudaMemcpyPeerAsync cannot be recorded
        CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, sender->stream));
        CHECK(cudaEventRecord(sender->turn, sender->stream));
        gpu_enter(receiver);
        CHECK(cudaStreamWaitEvent(receiver->stream, sender->turn, 0));
    }
    gpu_enter(now);
}

// Large copies pass through two pinned buffers in turn, so that the GPU copies one piece while the host fills or
// empties the other.
static void put(void *device, const void *host, size_t bytes) {
    if (bytes <= SMALL_COPY) {
        CHECK(cudaMemcpyAsync(device, gpu_pinned(host, bytes, NULL), bytes, cudaMemcpyHostToDevice, g->stream));
        return;
    }
    for (size_t at = 0, k = 0, n; at < bytes; at += n, k ^= 1) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        CHECK(cudaEventSynchronize(g->piece_done[k]));
        memcpy(g->piece[k], (const char *)host + at, n);
        CHECK(cudaMemcpyAsync((char *)device + at, g->piece[k], n, cudaMemcpyHostToDevice, g->stream));
        CHECK(cudaEventRecord(g->piece_done[k], g->stream));
    }
}

void cuda_put(void *device, const void *host, size_t bytes) {
    if (!bytes) return;
    gpu *now = g;
    gpu_enter(gpu_owner(device));
    put(device, host, bytes);
    gpu_enter(now);
}

static void get(void *host, const void *device, size_t bytes) {
    if (bytes <= SMALL_COPY) {
        CHECK(cudaMemcpyAsync(g->small, device, bytes, cudaMemcpyDeviceToHost, g->stream));
        CHECK(cudaStreamSynchronize(g->stream));
        memcpy(host, g->small, bytes);
        return;
    }
    size_t before = 0, waiting = 0;
    for (size_t at = 0, k = 0, n; before < bytes; at += n, k ^= 1) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        if (n) {
            CHECK(cudaMemcpyAsync(g->piece[k], (const char *)device + at, n, cudaMemcpyDeviceToHost, g->stream));
            CHECK(cudaEventRecord(g->piece_done[k], g->stream));
        }
        if (waiting) {
            CHECK(cudaEventSynchronize(g->piece_done[k ^ 1]));
            memcpy((char *)host + before, g->piece[k ^ 1], waiting);
            before += waiting;
        }
        waiting = n;
    }
}

void cuda_get(void *host, const void *device, size_t bytes) {
    gpu *now = g;
    if (bytes) gpu_enter(gpu_owner(device));
    if (bytes)
        get(host, device, bytes);
    else
        CHECK(cudaStreamSynchronize(g->stream));
    gpu_check_numbers();
    gpu_enter(now);
}
