// cuda_host - what the files of the GPU library share: the state of a GPU, errors, blocks of memory, arguments on the
// device, spans. Each operation is defined in a file of its group (ops.h); the kernels and their launchers are in
// cuda_launch.h.
#pragma once
#include "cuda_launch.h"
#include "ops.h"
#include <cublas_v2.h>
#include <curand.h>

// The operations: cuda_embed, cuda_linear, ...
#define OP(type, name, args) type cuda_##name args;
#include "ops_all.h"
#undef OP

extern const ops gpu_table;  // all of them, but those that record

enum {
    PIECE_BYTES = 4 << 20,   // each of the two pinned buffers for large copies
    SMALL_COPY = 64 << 10,   // copies up to this size go without them; what comes down, through a buffer of its own
    SCALAR_BYTES = 8 << 10,  // numbers that cuBLAS reads from device memory (cuda_round.c)
    COUNTERS = 16 << 10,     // of blocks that have done their part of a sum; 0 between launches
    WORK_LEAST = 32 << 20,   // workspace (parts of operands, tiles of gradients, row sums of attention): at least this,
    WORK_MOST = 1 << 30,     // at most this, else
    WORK_SHARE = 256,        // this part of a GPU's memory: fewer and larger products
    WORK_ALIGN = 256,
    GATHER_SHARE = 4,            // live rows of weights are gathered beside it, in this part of its size
    WORK_PAD = 16 * WORK_ALIGN,  // what aligning its pieces may take
    BLAS_BYTES = 4 << 20,        // cuBLAS's own, on GPUs before Hopper, which wants
    BLAS_BYTES_9 = 32 << 20,
    LANE_EVENTS = 64,      // of tickets that can be told apart
    LANE_BYTES = 1 << 20,  // workspace of a lane
    STAGE_BYTES = 4 << 20  // each half of the ring for arguments that are arrays of the host
};

typedef struct {
    char *base;
    size_t bytes, used;
    int live;
} segment;

// Work beside the computation (cuda_memory_lanes.c).
typedef struct {
    cudaStream_t stream;
    char *work;
    size_t work_bytes;
    cudaEvent_t done[LANE_EVENTS];
    long marks;
} gpu_lane;

typedef struct {
    char name[32], about[300];
    int device, processors, major;
    cudaStream_t stream;
    cublasHandle_t blas;
    curandGenerator_t random;  // made when it is first asked for
    // blocks of memory; allocations are cut from their ends, and a block goes when its last one does
    segment *segment;
    int n_segments, cap_segments;
    char *work;  // workspace, of which gpu_work takes pieces
    size_t work_bytes, work_used;
    int work_depth;
    char *gathered;              // [work_bytes / GATHER_SHARE] of cuda_live.c
    char *stage, *stage_pinned;  // two halves each, on the device and on the host
    cudaEvent_t stage_done[2];   // recorded when a half was left
    bool stage_left[2];
    int half;
    size_t staged;  // bytes used of the half
    bool recording;
    char *piece[2], *small;
    cudaEvent_t piece_done[2], turn;  // turn: what another GPU's stream waits for
    float *scalars;                   // of cuda_round.c, on the device
    unsigned *counters;               // [COUNTERS] on the device
    cuda_fault *fault;                // what a kernel has found, in pinned memory
    cudaEvent_t clock[2];             // begin and end of what is timed
    gpu_lane lane[OPS_LANES];
    gpu_lane *aside, computes;  // the lane at work, or NULL; meanwhile what the computation works with
} gpu;

extern gpu *g;               // the GPU whose part is being worked on: CUDA's current device, too
extern gpu gpus[OPS_PARTS];  // of all parts
extern int n_gpus;
extern bool gpu_slow;                // KIT_SYNC=1: wait for every launch, so that an error names its own
extern const float gpu_zero_one[2];  // what g->scalars begins with

void gpu_check(cudaError_t e, const char *what, const char *file, int line);
void gpu_check_blas(cublasStatus_t s, const char *what, const char *file, int line);
void gpu_check_rand(curandStatus_t s, const char *what, const char *file, int line);
void gpu_check_launch(const char *what, const char *file, int line);
#define CHECK(call)    gpu_check(call, #call, __FILE__, __LINE__)
#define BLAS(call)     gpu_check_blas(call, #call, __FILE__, __LINE__)
#define RAND(call)     gpu_check_rand(call, #call, __FILE__, __LINE__)
#define LAUNCHED(name) gpu_check_launch(name, __FILE__, __LINE__)

// A copy on the device of an argument that is an array of the host, good for launches until the ring comes round.
void *gpu_stage(const void *host, size_t bytes);

void gpu_enter(gpu *to);                          // g becomes that one
gpu *gpu_owner(const void *p);                    // the GPU whose memory p is
segment *gpu_segment_in(gpu *of, const void *p);  // NULL: none of its own
void gpu_add_segment(size_t bytes);
size_t gpu_rounded(size_t bytes);  // up to what allocations are multiples of
// A copy of host memory in pinned memory, good for one copy to the device, which runs while the host works; *at: its
// place in the ring.
const void *gpu_pinned(const void *host, size_t bytes, size_t *at);
// Memory of the device for the length of an operation, in the workspace of the GPU at work: an arena as scratch.h has
// it for host memory, with the same rules, but of fixed size, so that a recorded operation finds it where it was. An
// operation marks, takes and releases; what is launched later on the stream may overwrite what was released.
// g->work_bytes can be taken at a time; they follow from the kind of GPU alone, and with them the shapes of products.
typedef struct {
    size_t used;
    int depth;
} gpu_work_point;
gpu_work_point gpu_work_mark(void);
void *gpu_work(size_t bytes);
void gpu_work_release(gpu_work_point mark);
static inline int gpu_even(int n, int of) { return (n + of - 1) / of * of; }  // up to a multiple

// A vector, which model_load_on has widened to fp32.
static inline const float *gpu_vector(const weight *w) {
    ASSERT(w->type == DT_F32);
    return w->data;
}
// Ends the program where a kernel has met a number that is not finite; after the host has waited.
void gpu_check_numbers(void);

// Spans from *at on, as many as a launch takes; neighbours become one where `merge`. Blocks hold `each` of a span's
// rows * width numbers.
bool gpu_spans(cuda_spans *out, const span *s, int n, int *at, int width, int each, bool merge);
#define EACH_CHUNK(width) for (int at_ = 0; gpu_spans(&spans, s, n, &at_, width, CUDA_CHUNK, true);)
#define EACH_ROWS         for (int at_ = 0; gpu_spans(&spans, s, n, &at_, 1, CUDA_WARPS, true);)
