// cuda_table - the CUDA table of operations (ops.h) and the opening of the GPUs that it works on. Built as a library of
// its own (device.c). The same bits whatever else is in the batch: no launch of a span depends on another span, no
// kernel makes a sum by atomics.
#include "cuda_host.h"
#include "cuda_memory_graph.h"
#include <stdio.h>
#include <stdlib.h>

enum { COUNTER_BYTES = COUNTERS * sizeof(unsigned) };

static char names[OPS_PARTS * 6];

static const char *try_open(gpu *of, int index) {
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (e == cudaSuccess) e = cudaSetDevice(index);
    if (e != cudaSuccess) return cudaGetErrorString(e);
    snprintf(of->about, sizeof of->about, "%s", p.name);
    of->processors = p.multiProcessorCount;
    of->major = p.major;
    of->work_bytes = p.totalGlobalMem / WORK_SHARE / WORK_LEAST * WORK_LEAST;
    if (of->work_bytes < WORK_LEAST) of->work_bytes = WORK_LEAST;
    if (of->work_bytes > WORK_MOST) of->work_bytes = WORK_MOST;
    if (p.major < 8) return "its compute capability is below 8.0, which the kernels are built for";
    return NULL;
}

static void start_lanes(char *work) {
    for (int i = 0; i < OPS_LANES; i++) {
        gpu_lane *lane = &g->lane[i];
        lane->work = work + i * (LANE_BYTES + WORK_PAD);
        lane->work_bytes = LANE_BYTES;
        CHECK(cudaStreamCreateWithFlags(&lane->stream, cudaStreamNonBlocking));
        for (int k = 0; k < LANE_EVENTS; k++) CHECK(cudaEventCreateWithFlags(&lane->done[k], cudaEventDisableTiming));
    }
}

static void start(void) {
    CHECK(cudaSetDevice(g->device));
    CHECK(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking));
    BLAS(cublasCreate(&g->blas));
    BLAS(cublasSetStream(g->blas, g->stream));
    const size_t blas = g->major < 9 ? BLAS_BYTES : BLAS_BYTES_9;
    gpu_add_segment(g->work_bytes + WORK_PAD + 2 * STAGE_BYTES + SCALAR_BYTES + COUNTER_BYTES + blas +
                    g->work_bytes / GATHER_SHARE + OPS_LANES * (LANE_BYTES + WORK_PAD));
    g->work = g->segment[0].base;
    g->stage = g->segment[0].base + g->work_bytes + WORK_PAD;
    g->scalars = (float *)(g->stage + 2 * STAGE_BYTES);
    g->counters = (unsigned *)(g->stage + 2 * STAGE_BYTES + SCALAR_BYTES);
    g->segment[0].used = g->segment[0].bytes;
    g->segment[0].live = 1;
    g->gathered = g->stage + 2 * STAGE_BYTES + SCALAR_BYTES + COUNTER_BYTES + blas;
    // its own would be allocated in the midst of a recording
    BLAS(cublasSetWorkspace(g->blas, g->stage + 2 * STAGE_BYTES + SCALAR_BYTES + COUNTER_BYTES, blas));
    void *buffers = NULL;
    CHECK(cudaMallocHost(&buffers, 2 * STAGE_BYTES + 2 * PIECE_BYTES + SMALL_COPY + sizeof *g->fault));
    g->stage_pinned = buffers;
    for (int i = 0; i < 2; i++) {
        g->piece[i] = g->stage_pinned + 2 * STAGE_BYTES + i * PIECE_BYTES;
        CHECK(cudaEventCreateWithFlags(&g->piece_done[i], cudaEventDisableTiming));
        CHECK(cudaEventCreateWithFlags(&g->stage_done[i], cudaEventDisableTiming));
    }
    g->small = g->piece[1] + PIECE_BYTES;
    g->fault = (cuda_fault *)(void *)(g->small + SMALL_COPY);
    *g->fault = (cuda_fault){0};
    CHECK(cudaMemsetAsync(g->counters, 0, COUNTER_BYTES, g->stream));
    CHECK(cudaMemcpyAsync(g->scalars, gpu_zero_one, sizeof gpu_zero_one, cudaMemcpyHostToDevice, g->stream));
    CHECK(cudaEventCreateWithFlags(&g->turn, cudaEventDisableTiming));
    for (int i = 0; i < 2; i++) CHECK(cudaEventCreate(&g->clock[i]));
    start_lanes(g->gathered + g->work_bytes / GATHER_SHARE);
}

// Direct copies between every two GPUs, where the machine has them; CUDA goes through the host elsewhere. Whether it
// has all.
static bool let_peers(void) {
    bool all = true;
    for (int a = 0; a < n_gpus; a++)
        for (int b = 0; b < n_gpus; b++) {
            int able = 0;
            gpu_enter(&gpus[a]);
            if (a == b) continue;
            able = cudaDeviceCanAccessPeer(&able, gpus[a].device, gpus[b].device) == cudaSuccess && able &&
                   cudaDeviceEnablePeerAccess(gpus[b].device, 0) == cudaSuccess;
            if (!able) (void)cudaGetLastError();
            all &= able != 0;
        }
    return all;
}

static bool same_list(const int *index, int n) {
    bool same = n == n_gpus;
    for (int k = 0; k < n && same; k++) same = gpus[k].device == index[k];
    return same;
}

// Opens the GPUs of a list as the parts of `table`; NULL, or why it cannot be.
static const char *open_list(const int *wanted, int n, ops *table, char *why, size_t room) {
    int count = 0, index[OPS_PARTS];
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) return snprintf(why, room, "%s", cudaGetErrorString(e)), why;
    if (count < 1) return snprintf(why, room, "this machine has no GPU"), why;
    for (int k = 0; k < n; k++) index[k] = wanted[k] < 0 ? (-1 - wanted[k]) % count : wanted[k];
    for (int k = 0; k < n; k++)
        if (index[k] >= count)
            return snprintf(why, room, "there is no such GPU as cuda:%d; this machine has %d", index[k], count), why;
    if (n_gpus && !same_list(index, n))
        return snprintf(why, room, "a program uses one list of GPUs, and %s is open", names), why;
    if (n_gpus) return NULL;
    for (int k = 0, at = 0; k < n; k++) {
        at += snprintf(names + at, sizeof names - (size_t)at, k ? ",%d" : "cuda:%d", index[k]);
        snprintf(gpus[k].name, sizeof gpus[k].name, "cuda:%d", index[k]);
        gpus[k].device = index[k];
        const char *bad = try_open(&gpus[k], index[k]);
        if (bad) return snprintf(why, room, "cuda:%d: %s", index[k], bad), why;
    }
    gpu_slow = getenv("KIT_SYNC") && atoi(getenv("KIT_SYNC"));
    n_gpus = n;
    for (int k = 0; k < n; k++) {
        g = &gpus[k];
        start();
    }
    const bool peers = let_peers();
    gpu_enter(&gpus[0]);
    table->device = names;
    table->about = gpus[0].about;
    table->parts = n;
    if (!gpu_slow) graph_open(table, peers);
    return NULL;
}

const ops gpu_table = {
#define OP(type, name, args) .name = cuda_##name,
#include "ops_all.h"
#undef OP
};

__attribute__((visibility("default"))) ops_cuda_fn ops_cuda;
const ops *ops_cuda(const int *index, int n, char *why, size_t room) {
    static ops opened;
    if (!opened.parts) opened = gpu_table;
    return open_list(index, n, &opened, why, room) ? NULL : &opened;
}
