// cuda_host - the GPUs that share a model's layers: errors, blocks of memory, uploads of arguments, spans. Contract in
// cuda_host.h.
#include "cuda_host.h"
#include <string.h>

gpu gpus[OPS_PARTS];
int n_gpus;
bool gpu_slow;
gpu *g;
const float gpu_zero_one[2] = {0, 1};

// ---------------------------------------------------------------- errors
void gpu_check(cudaError_t e, const char *what, const char *file, int line) {
    if (e != cudaSuccess) die(1, "%s (%s): %s: %s (%s:%d)", g->name, g->about, what, cudaGetErrorString(e), file, line);
}
void gpu_check_blas(cublasStatus_t s, const char *what, const char *file, int line) {
    if (s != CUBLAS_STATUS_SUCCESS)
        die(1, "%s (%s): %s: %s (%s:%d)", g->name, g->about, what, cublasGetStatusString(s), file, line);
}
void gpu_check_rand(curandStatus_t s, const char *what, const char *file, int line) {
    if (s != CURAND_STATUS_SUCCESS)
        die(1, "%s (%s): %s: cuRAND's error %d (%s:%d)", g->name, g->about, what, (int)s, file, line);
}
void gpu_check_launch(const char *what, const char *file, int line) {
    gpu_check(cudaGetLastError(), what, file, line);
    if (gpu_slow) gpu_check(cudaStreamSynchronize(g->stream), what, file, line);
}

void gpu_check_numbers(void) {
    for (gpu *of = gpus; of < gpus + n_gpus; of++)
        if (of->fault->operation)
            die(1, "%s (%s): %s with %s: a number among the rows is not finite", of->name, of->about,
                of->fault->operation, of->fault->tensor);
}

// ---------------------------------------------------------------- parts
void gpu_enter(gpu *to) {
    if (to == g) return;
    g = to;
    CHECK(cudaSetDevice(g->device));
}

// ---------------------------------------------------------------- blocks of memory
segment *gpu_segment_in(gpu *of, const void *p) {
    for (int i = 0; i < of->n_segments; i++)
        if ((const char *)p >= of->segment[i].base && (const char *)p < of->segment[i].base + of->segment[i].bytes)
            return &of->segment[i];
    return NULL;
}

// The GPU whose memory p is.
gpu *gpu_owner(const void *p) {
    if (n_gpus == 1) return g;
    for (int k = 0; k < n_gpus; k++)
        if (gpu_segment_in(&gpus[k], p)) return &gpus[k];
    ASSERT(!"memory of no part");
    return NULL;
}

size_t gpu_rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

void gpu_add_segment(size_t bytes) {
    void *p = NULL;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess)
        die(1, "%s (%s): %.1f MiB of device memory: %s; smaller batches take less", g->name, g->about,
            (double)bytes / (1 << 20), cudaGetErrorString(e));
    VEC_PUSH(g->segment, g->n_segments, g->cap_segments, ((segment){p, bytes, 0, 0}));
}

// ---------------------------------------------------------------- workspace
gpu_work_point gpu_work_mark(void) { return (gpu_work_point){g->work_used, ++g->work_depth}; }

void *gpu_work(size_t bytes) {
    const size_t room = (bytes + WORK_ALIGN - 1) / WORK_ALIGN * WORK_ALIGN;
    ASSERT(g->work_depth > 0 && room <= g->work_bytes + WORK_PAD - g->work_used);
    void *p = g->work + g->work_used;
    g->work_used += room;
    return p;
}

void gpu_work_release(gpu_work_point mark) {
    ASSERT(mark.depth == g->work_depth);
    g->work_depth--;
    g->work_used = mark.used;
}

// ---------------------------------------------------------------- arguments on the device
// A copy of host memory in pinned memory, good for one copy to the device, which runs while the host works; *at: its
// place in the ring.
const void *gpu_pinned(const void *host, size_t bytes, size_t *at) {
    const size_t room = gpu_rounded(bytes);
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

void *gpu_stage(const void *host, size_t bytes) {
    size_t at;
    const void *from = gpu_pinned(host, bytes, &at);
    CHECK(cudaMemcpyAsync(g->stage + at, from, bytes, cudaMemcpyHostToDevice, g->stream));
    return g->stage + at;
}

// ---------------------------------------------------------------- spans
bool gpu_spans(cuda_spans *out, const span *s, int n, int *at, int width, int each, bool merge) {
    out->n = out->blocks = 0;
    for (; *at < n && out->n < CUDA_SPANS; ++*at) {
        cuda_span one = {s[*at].row, s[*at].n, out->blocks, *at};
        while (merge && *at + 1 < n && (s[*at + 1].row == one.row + one.n || !s[*at + 1].n)) one.n += s[++*at].n;
        if (!one.n) continue;
        out->blocks += (int)(((size_t)one.n * (size_t)width + (size_t)each - 1) / (size_t)each);
        out->s[out->n++] = one;
    }
    return out->n > 0;
}
