// ops_cuda - what the files of the GPU library share: the state of a GPU, errors, arguments on the device. Contract of the table in ops.h.
#pragma once
#include "cuda.h"
#include "ops_cpu.h"
#include <cublas_v2.h>
#include <curand.h>

enum {
    WORK_BYTES = 32 << 20,    // workspace: widened weights, row sums of attention
    BLAS_BYTES = 4 << 20,     // cuBLAS's own, on GPUs before Hopper, which wants
    BLAS_BYTES_9 = 32 << 20,
    STAGE_BYTES = 4 << 20     // each half of the ring for arguments that are arrays of the host
};

typedef struct { char *base; size_t bytes, used; int live; } segment;

typedef struct {
    char name[32], about[300];
    int device, processors, major;
    cudaStream_t stream;
    cublasHandle_t blas;
    curandGenerator_t random;    // made when it is first asked for
    segment *segment;            // blocks of memory; allocations are cut from their ends, and a block goes when its last one does
    int n_segments, cap_segments;
    float *work;
    char *stage, *stage_pinned;  // two halves each, on the device and on the host
    cudaEvent_t stage_done[2];   // recorded when a half was left
    bool stage_left[2];
    int half;
    size_t staged;               // bytes used of the half
    bool recording;
    char *piece[2];
    cudaEvent_t piece_done[2], turn;  // turn: what another GPU's stream waits for
    float *scalars;              // of ops_cuda_round.c, on the device
    cuda_fault *fault;           // what a kernel has found, in pinned memory
    cudaEvent_t clock[2];        // begin and end of what is timed
} gpu;

extern gpu *g;  // the GPU whose part is being worked on: CUDA's current device, too
extern gpu gpus[OPS_PARTS];  // of all parts
extern int n_gpus;

void gpu_check(cudaError_t e, const char *what, const char *file, int line);
void gpu_check_blas(cublasStatus_t s, const char *what, const char *file, int line);
void gpu_check_rand(curandStatus_t s, const char *what, const char *file, int line);
void gpu_check_launch(const char *what, const char *file, int line);
#define CHECK(call) gpu_check(call, #call, __FILE__, __LINE__)
#define BLAS(call) gpu_check_blas(call, #call, __FILE__, __LINE__)
#define RAND(call) gpu_check_rand(call, #call, __FILE__, __LINE__)
#define LAUNCHED(name) gpu_check_launch(name, __FILE__, __LINE__)

// A copy on the device of an argument that is an array of the host, good for launches until the ring comes round.
void *gpu_stage(const void *host, size_t bytes);

// ops_cuda.c. Spans from *at on, as many as a launch takes; neighbours become one where `merge`. Blocks hold `each` of a span's rows * width numbers.
bool gpu_spans(cuda_spans *out, const span *s, int n, int *at, int width, int each, bool merge);

// ops_cuda_criteria.c: the operations that criteria are made of.
void cuda_unit_sums(double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n);
void cuda_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n);
void cuda_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n);
void cuda_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units, const span *s, int n);
void cuda_correlate(float *corr, float *most, float *work, const float *x, int E, const span *s, int n);

// ops_cuda_memory.c: the operations of memory.
void *cuda_alloc(size_t bytes);
void cuda_release(void *p);
void cuda_put(void *device, const void *host, size_t bytes);
void cuda_get(void *host, const void *device, size_t bytes);
void cuda_zero(void *p, size_t bytes);
void cuda_copy(void *to, const void *from, size_t bytes);
size_t cuda_room(void);
void cuda_reserve(size_t bytes);
const char *cuda_use(int part);

// ops_cuda_feed.c
struct feed *cuda_feed_new(size_t bytes);
void cuda_feed_free(struct feed *f);
void *cuda_feed_fill(struct feed *f);
void cuda_feed_send(struct feed *f, size_t bytes);
void *cuda_feed_take(struct feed *f);

// ops_cuda_blocks.c
void cuda_random(void *to, dtype type, size_t n, double bound, uint64_t seed);
void cuda_transpose(void *to, const weight *w);
double cuda_read(uint64_t *sum, const void *p, size_t bytes);

// ops_cuda_train.c
void cuda_linear_step(float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x, int out, int in, int rows);
void cuda_loss(double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n);
void cuda_pool(float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k, int E, const span *s, int n);
void cuda_pool_back(float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count, const float *q, const float *k, const float *lse, int E, const span *s, int n);
void cuda_minmax(float *y, const float *x, int E, const span *s, int n);
long cuda_cut(uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n);

// ops_cuda_round.c: y = x W' or (back) y = x W, or added to y, with 16-bit operands.
enum { SCALAR_BYTES = 8 << 10 };
extern const float gpu_zero_one[2];  // what g->scalars begins with
void gpu_multiply_rounded(float *y, const float *x, const weight *w, bool back, bool add, const span *s, int n, const char *operation);
// The gradient dz' x of a weight (F, E) over a span and its tangent, by pieces, likewise: [0] dz, x; [1] their tangents or NULL. add: to [n, E] = (or +=) rows
// from.. of dz[tdz]' x[tx], n <= columns. The last ROUND_BYTES of the workspace are its own.
enum { ROUND_BYTES = 10 << 20 };
typedef struct {
    const weight *w;
    const float *dz[2], *x[2], *held;  // held: the rows of x that are rounded already
    cuda_scale of_dz[2], of_x[2];
    int T, rows, columns;              // at once
} gpu_gradient;
void gpu_gradient_begin(gpu_gradient *r, const weight *w, const float *const dz[2], const float *const x[2], const span *s);
void gpu_gradient_add(gpu_gradient *r, float *to, int tdz, int tx, int from, int n, bool add);
// Ends the program where a kernel has met a number that is not finite; after the host has waited.
void gpu_check_numbers(void);


// ops_cuda_graph.c: gives `table` the operations that record others, where they can be had; peers: every GPU reaches the memory of every other.
void graph_open(ops *table, bool peers);
// Opens the GPUs of a list as the parts of `table`; NULL, or why it cannot be.
const char *gpu_open(const int *wanted, int n, ops *table, char *why, size_t room);
