// ops_cuda_memory - the GPU library's memory: blocks, copies, uploads of arguments, and the GPUs that share a model's layers, each a part with
// its own stream, memory and workspace.
//
// Work is in stream order within a part. The host waits where an operation hands it numbers (get, logprob) and where pinned memory is used
// again. A copy between parts runs on the sender's stream, behind what the receiver's stream holds, which waits for it in turn.
#include "ops_cuda.h"
#include <stdlib.h>
#include <string.h>

enum {
    PIECE_BYTES = 4 << 20,    // each of the two pinned buffers for large copies
    SMALL_COPY = 64 << 10     // copies up to this size go without them
};

gpu gpus[OPS_PARTS];
int n_gpus;
static bool slow;             // KIT_SYNC=1: wait for every launch, so that an error names its own
static char names[OPS_PARTS * 6];
gpu *g;

// ---------------------------------------------------------------- errors
void gpu_check(cudaError_t e, const char *what, const char *file, int line) {
    if (e != cudaSuccess) die(1, "%s (%s): %s: %s (%s:%d)", g->name, g->about, what, cudaGetErrorString(e), file, line);
}
void gpu_check_blas(cublasStatus_t s, const char *what, const char *file, int line) {
    if (s != CUBLAS_STATUS_SUCCESS) die(1, "%s (%s): %s: %s (%s:%d)", g->name, g->about, what, cublasGetStatusString(s), file, line);
}
void gpu_check_rand(curandStatus_t s, const char *what, const char *file, int line) {
    if (s != CURAND_STATUS_SUCCESS) die(1, "%s (%s): %s: cuRAND's error %d (%s:%d)", g->name, g->about, what, (int)s, file, line);
}
void gpu_check_launch(const char *what, const char *file, int line) {
    gpu_check(cudaGetLastError(), what, file, line);
    if (slow) gpu_check(cudaStreamSynchronize(g->stream), what, file, line);
}

void gpu_check_numbers(void) {
    for (gpu *of = gpus; of < gpus + n_gpus; of++)
        if (of->fault->operation) die(1, "%s (%s): %s with %s: a number among the rows is not finite", of->name, of->about, of->fault->operation, of->fault->tensor);
}

// ---------------------------------------------------------------- parts
static void enter(gpu *to) {
    if (to == g) return;
    g = to;
    CHECK(cudaSetDevice(g->device));
}

const char *cuda_use(int part) {
    static char text[400];
    ASSERT(part >= 0 && part < n_gpus);
    enter(&gpus[part]);
    snprintf(text, sizeof text, "%s (%s)", g->name, g->about);
    return text;
}

static segment *segment_in(gpu *of, const void *p) {
    for (int i = 0; i < of->n_segments; i++)
        if ((const char *)p >= of->segment[i].base && (const char *)p < of->segment[i].base + of->segment[i].bytes) return &of->segment[i];
    return NULL;
}

// The GPU whose memory p is.
static gpu *owner(const void *p) {
    if (n_gpus == 1) return g;
    for (int k = 0; k < n_gpus; k++)
        if (segment_in(&gpus[k], p)) return &gpus[k];
    ASSERT(!"memory of no part");
    return NULL;
}

// ---------------------------------------------------------------- memory
static size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

static void add_segment(size_t bytes) {
    void *p = NULL;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess) die(1, "%s (%s): %.1f MiB of device memory: %s; smaller batches take less", g->name, g->about, (double)bytes / (1 << 20), cudaGetErrorString(e));
    VEC_PUSH(g->segment, g->n_segments, g->cap_segments, ((segment){p, bytes, 0, 0}));
}

void *cuda_alloc(size_t bytes) {
    bytes = rounded(bytes ? bytes : 1);
    int i = 0;
    while (i < g->n_segments && g->segment[i].bytes - g->segment[i].used < bytes) i++;
    if (i == g->n_segments) add_segment(bytes);
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
    enter(owner(p));
    segment *s = segment_in(g, p);
    if (--s->live == 0) {
        for (int k = 0; k < n_gpus; k++) {  // a copy from or to it may be under way
            enter(&gpus[k]);
            CHECK(cudaStreamSynchronize(g->stream));
        }
        enter(owner(p));
        CHECK(cudaFree(s->base));
        *s = g->segment[--g->n_segments];
    }
    enter(now);
}

size_t cuda_room(void) {
    size_t left = 0, all = 0;
    CHECK(cudaMemGetInfo(&left, &all));
    return left;
}

void cuda_reserve(size_t bytes) { add_segment(rounded(bytes)); }

void cuda_zero(void *p, size_t bytes) {
    if (!bytes) return;
    gpu *now = g;
    enter(owner(p));
    CHECK(cudaMemsetAsync(p, 0, bytes, g->stream));
    enter(now);
}

void cuda_copy(void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    gpu *now = g, *sender = owner(from), *receiver = owner(to);
    if (sender == receiver) {
        enter(sender);
        CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, g->stream));
    } else {
        enter(receiver);
        CHECK(cudaEventRecord(receiver->turn, receiver->stream));
        enter(sender);
        CHECK(cudaStreamWaitEvent(sender->stream, receiver->turn, 0));
        CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, sender->stream));  // cudaMemcpyPeerAsync cannot be recorded
        CHECK(cudaEventRecord(sender->turn, sender->stream));
        enter(receiver);
        CHECK(cudaStreamWaitEvent(receiver->stream, sender->turn, 0));
    }
    enter(now);
}

// A copy of host memory in pinned memory, good for one copy to the device, which goes on while the host does; *at: its place in the ring.
static const void *pinned(const void *host, size_t bytes, size_t *at) {
    const size_t room = rounded(bytes);
    ASSERT(room <= STAGE_BYTES && !g->recording);
    if (g->staged + room > STAGE_BYTES) {
        CHECK(cudaEventRecord(g->stage_done[g->half], g->stream));
        g->stage_left[g->half] = true;
        g->half ^= 1;
        g->staged = 0;
        if (g->stage_left[g->half]) CHECK(cudaEventSynchronize(g->stage_done[g->half]));
    }
    const size_t begin = (size_t)g->half * STAGE_BYTES + g->staged;
    g->staged += room;
    if (at) *at = begin;
    return memcpy(g->stage_pinned + begin, host, bytes);
}

// Large copies pass through two pinned buffers in turn, so that the GPU copies one piece while the host fills or empties the other.
static void put(void *device, const void *host, size_t bytes) {
    if (bytes <= SMALL_COPY) {
        CHECK(cudaMemcpyAsync(device, pinned(host, bytes, NULL), bytes, cudaMemcpyHostToDevice, g->stream));
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
    enter(owner(device));
    put(device, host, bytes);
    enter(now);
}

static void get(void *host, const void *device, size_t bytes) {
    if (bytes <= SMALL_COPY) {
        CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, g->stream));
        CHECK(cudaStreamSynchronize(g->stream));
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
    if (bytes) enter(owner(device));
    if (bytes) get(host, device, bytes);
    else CHECK(cudaStreamSynchronize(g->stream));
    gpu_check_numbers();
    enter(now);
}

void *gpu_stage(const void *host, size_t bytes) {
    size_t at;
    const void *from = pinned(host, bytes, &at);
    CHECK(cudaMemcpyAsync(g->stage + at, from, bytes, cudaMemcpyHostToDevice, g->stream));
    return g->stage + at;
}

// ---------------------------------------------------------------- opening
static const char *try_open(gpu *of, int index) {
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (e == cudaSuccess) e = cudaSetDevice(index);
    if (e != cudaSuccess) return cudaGetErrorString(e);
    snprintf(of->about, sizeof of->about, "%s", p.name);
    of->processors = p.multiProcessorCount;
    of->major = p.major;
    if (p.major < 8) return "its compute capability is below 8.0, which the kernels are built for";
    return NULL;
}

static void start(void) {
    CHECK(cudaSetDevice(g->device));
    CHECK(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking));
    BLAS(cublasCreate(&g->blas));
    BLAS(cublasSetStream(g->blas, g->stream));
    const size_t blas = g->major < 9 ? BLAS_BYTES : BLAS_BYTES_9;
    add_segment(rounded(WORK_BYTES) + 2 * STAGE_BYTES + SCALAR_BYTES + blas);
    g->work = (float *)g->segment[0].base;
    g->stage = g->segment[0].base + rounded(WORK_BYTES);
    g->scalars = (float *)(g->stage + 2 * STAGE_BYTES);
    g->segment[0].used = g->segment[0].bytes;
    g->segment[0].live = 1;
    BLAS(cublasSetWorkspace(g->blas, g->stage + 2 * STAGE_BYTES + SCALAR_BYTES, blas));  // its own would be allocated in the midst of a recording
    void *buffers = NULL;
    CHECK(cudaMallocHost(&buffers, 2 * STAGE_BYTES + 2 * PIECE_BYTES + sizeof *g->fault));
    g->stage_pinned = buffers;
    for (int i = 0; i < 2; i++) {
        g->piece[i] = g->stage_pinned + 2 * STAGE_BYTES + i * PIECE_BYTES;
        CHECK(cudaEventCreateWithFlags(&g->piece_done[i], cudaEventDisableTiming));
        CHECK(cudaEventCreateWithFlags(&g->stage_done[i], cudaEventDisableTiming));
    }
    g->fault = (cuda_fault *)(void *)(g->piece[1] + PIECE_BYTES);
    *g->fault = (cuda_fault){0};
    CHECK(cudaMemcpyAsync(g->scalars, gpu_zero_one, sizeof gpu_zero_one, cudaMemcpyHostToDevice, g->stream));
    CHECK(cudaEventCreateWithFlags(&g->turn, cudaEventDisableTiming));
    for (int i = 0; i < 2; i++) CHECK(cudaEventCreate(&g->clock[i]));
}

// Direct copies between every two GPUs, where the machine has them; CUDA goes through the host elsewhere. Whether it has all.
static bool let_peers(void) {
    bool all = true;
    for (int a = 0; a < n_gpus; a++)
        for (int b = 0; b < n_gpus; b++) {
            int able = 0;
            enter(&gpus[a]);
            if (a == b) continue;
            able = cudaDeviceCanAccessPeer(&able, gpus[a].device, gpus[b].device) == cudaSuccess && able && cudaDeviceEnablePeerAccess(gpus[b].device, 0) == cudaSuccess;
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

const char *gpu_open(const int *wanted, int n, ops *table, char *why, size_t room) {
    int count = 0, index[OPS_PARTS];
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) return snprintf(why, room, "%s", cudaGetErrorString(e)), why;
    if (count < 1) return snprintf(why, room, "this machine has no GPU"), why;
    for (int k = 0; k < n; k++) index[k] = wanted[k] < 0 ? (-1 - wanted[k]) % count : wanted[k];
    for (int k = 0; k < n; k++)
        if (index[k] >= count) return snprintf(why, room, "there is no such GPU as cuda:%d; this machine has %d", index[k], count), why;
    if (n_gpus && !same_list(index, n)) return snprintf(why, room, "a program uses one list of GPUs, and %s is open", names), why;
    if (n_gpus) return NULL;
    for (int k = 0, at = 0; k < n; k++) {
        at += snprintf(names + at, sizeof names - (size_t)at, k ? ",%d" : "cuda:%d", index[k]);
        snprintf(gpus[k].name, sizeof gpus[k].name, "cuda:%d", index[k]);
        gpus[k].device = index[k];
        const char *bad = try_open(&gpus[k], index[k]);
        if (bad) return snprintf(why, room, "cuda:%d: %s", index[k], bad), why;
    }
    slow = getenv("KIT_SYNC") && atoi(getenv("KIT_SYNC"));
    n_gpus = n;
    for (int k = 0; k < n; k++) {
        g = &gpus[k];
        start();
    }
    const bool peers = let_peers();
    enter(&gpus[0]);
    table->device = names;
    table->about = gpus[0].about;
    table->parts = n;
    if (!slow) graph_open(table, peers);
    return NULL;
}
