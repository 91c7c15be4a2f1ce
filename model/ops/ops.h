// ops - the device seam: everything above works on device memory through one table of operations. The CPU's table is
// ops_cpu(); that of a GPU comes from a library of its own, which ops_open loads when it is asked for.
//
// Arrays are row major, one row per token. A batch packs sequences; a span is the rows of one sequence that an
// operation works on. No number of one span depends on another span, on the thread count or on what else is in the
// batch. Accumulation is fp32 or wider. Suffixes: _back = gradient with respect to the input; _jvp = forward tangent;
// _back_jvp = tangent of the gradient.
//
// Operations come in groups: memory, transformer, live, criteria, nets. A group's list, ops_GROUP.h, is the only place
// where its signatures are written: OP(result, name, arguments). Whoever includes a list says what OP makes of them.
// Here it makes the members of the table, in cpu.h and cuda_host.h the prototypes, in cpu_table.c and cuda_table.c the
// tables, in the group's test the names of which each must have a case. So an operation that a backend lacks does not
// link, one with another signature does not compile, and one without a test fails.
//
// To add an operation:
//   1. ops_GROUP.h                 its OP line, with what it computes
//   2. cpu_GROUP*.c                cpu_NAME
//   3. cuda_GROUP*.c               cuda_NAME
//      cuda_launch.h, cuda_GROUP*.cu   if it needs a kernel of its own
//   4. tests/test_ops_GROUP.c      a case
#pragma once
#include "adamw.h"
#include "attn_heads.h"
#include "ckpt.h"
#include "lowest.h"
#include "norm_shape.h"
#include "unit_sums.h"

enum { OPS_PARTS = 16 };    // GPUs that can share the layers of a model, at most
enum { LIST_SEQS = 64 };    // sequences that a list of live units can be made for (ops_live.h: list_live)
enum { OPS_LANES = 2 };     // of work beside the computation (ops_memory.h: aside)
enum { FETCH_ALIGN = 64 };  // of the places of a fetch (ops_memory.h)
static inline size_t fetch_room(size_t bytes) { return (bytes + FETCH_ALIGN - 1) / FETCH_ALIGN * FETCH_ALIGN; }
// What a backend keeps of a fetch's memory of the host.
typedef struct {
    char *host;
    size_t bytes, used;
    bool waited;  // the next place is the first again
} fetch_places;
static inline void *fetch_next(fetch_places *f, size_t bytes) {
    if (f->waited) f->used = 0;
    f->waited = false;
    void *to = f->host + f->used;
    f->used += fetch_room(bytes);
    ASSERT(f->used <= f->bytes);
    return to;
}

// A weight in its stored type, as memory of the device. (rows, cols); a bias has cols 1. wide: an fp32 copy of 16-bit
// data for matrix products, or NULL. narrow: NULL, or the name of a tensor of 16 bits to whose type products round the
// rows that meet it (activations, below), or of one in blocks that multiplies 8-bit numbers. turned: data hold the
// transpose, (cols, rows), as blocks along the rows' side must (METHOD 2.5) and as another device has wo and w2. Types
// in blocks are on the CPU only.
typedef struct {
    const void *data;
    dtype type;
    int rows, cols;
    const float *wide;
    const char *narrow;
    bool turned;
} weight;
// Bytes of its data.
static inline size_t weight_size(const weight *w) {
    const int lines = w->turned ? w->cols : w->rows, width = w->turned ? w->rows : w->cols;
    return (size_t)lines * dtype_size(w->type, (size_t)width);
}
// What a turned weight holds, as a weight of its own.
static inline weight weight_transpose(const weight *w) {
    weight t = *w;
    t.rows = w->cols, t.cols = w->rows, t.turned = false;
    return t;
}

typedef struct {
    int row, n;
} span;  // rows row .. row + n - 1

typedef struct {                   // one sequence in attention
    span s;                        // its rows in q, k, v, out
    int from;                      // queries from..n-1 count (earlier rows of out or dout are zero or not wanted)
    const float *past_k, *past_v;  // [past, K D] of the tokens before, or NULL
    int past;
    const int32_t *past_at;   // device memory: where a replay finds `past`; NULL: it is `past` every time
    int past_most;            // with past_at: what it can be
    const uint8_t *past_has;  // [past, K], live_attention only: 0 where a KV head lacks a token; NULL: has all
} attn_seq;

// The live units of a layer: those that at least one sequence of a batch runs. Device memory.
typedef struct {
    const int32_t *unit;  // [n] ascending
    int n, seqs;
    const uint8_t *wants;  // [n, seqs] 1 where a sequence (its place among the spans) runs it; NULL: all do
    const int32_t *n_at;   // device memory: where a replay finds n; NULL: it is n every time
} live_units;

// Lists of n layers, which lie so many numbers apart in each array of list_live.
typedef struct {
    int n;
    size_t list, wants, keep;
} list_stack;

// What the maps of a sublayer read: N(x), which is left in h (rows, E). gain NULL: h has it already, x is not read.
typedef struct {
    float *h;
    const float *x;
    const weight *gain, *bias;  // as of norm
    norm_shape shape;
} sublayer_input;
enum { SUBLAYER_MAPS = 3 };
// One of them: y = h W' + b at the columns of live units of D rows of W.
typedef struct {
    float *y;
    const weight *w, *b;  // b: NULL allowed
    int D;
    const live_units *u;  // NULL: all units
    bool turn;            // then each unit is turned by its position, as by rotate; other columns are not defined
    float *const *to;     // [n], or NULL: and goes into caches, as by append; there other columns are not defined
} sublayer_map;

// Sums over the columns of a row of a weight W, with its gradient G and a tangent H of that gradient (weight_sums).
enum { WSUM_SIZE, WSUM_SQUARE, WSUM_SIGNED, WSUM_TANGENT, WSUMS };  // sum |W G|, sum G G, sum W G, sum W H

// The loss of outputs y and targets t: the mean of
//   LOSS_MSE  (y - t)^2
//   LOSS_BCE  w(t) (log(1 + e^y) - t y), labels t, w = t (1 - positive) + positive: DejaVu's weighting by the
//             fraction of positives
typedef enum { LOSS_MSE, LOSS_BCE } loss_kind;

struct ops {
#define OP(type, name, args) type(*name) args;
#include "ops_all.h"
#undef OP
    // Operations between record and recorded are not done but kept, and replay does them in one call (a CUDA graph).
    // What changes from replay to replay they find in device memory (embed, add_positions, append, past_at, n_at), all
    // else is as it was. None may take or give host memory: no put, get, alloc, release, embed_grad, units to drop,
    // cross-entropy. A recording takes what every part is given; part 0 is at work after record, recorded and replay.
    // launches: kernels and copies of a replay; chain: the most of them that wait for one another. NULL, all six, on a
    // device that cannot.
    void (*record)(void);
    struct recording *(*recorded)(void);
    void (*replay)(const struct recording *r);
    int (*launches)(const struct recording *r), (*chain)(const struct recording *r);
    void (*forget)(struct recording *r);
    const char *device;  // "cpu", "cuda:0", "cuda:0,1"
    const char *about;   // what it is: the GPU's name
    bool host;           // its memory is host memory
    int parts;           // 1.. OPS_PARTS
    dtype activations;   // of a model that is loaded with this table; DT_F32: as they are
};
typedef struct ops ops;

const ops *ops_cpu(void);
// The table of a device by its name on the command line: cpu, cuda (the first GPU, or that of the process's number on
// its machine), cuda:1 or cuda:0,1. NULL and err_set where there is none.
const ops *ops_open(const char *device);
// The same with rounded activations (DT_F32: as ops_open). What a model's matrix products multiply,
// activations, gradients and tangents, is rounded to nearest even: to 8 significant bits (bf16) or to 11 (fp16), at any
// size, see CUDA.md; sums, attention, norms and what is kept stay fp32. Matrices of another type are rounded to it when
// they are loaded. A number that is not finite ends the program with operation and tensor. DT_Q8_0, on the CPU only:
// products x W' with weights in blocks, but for turned ones, take x in blocks of 8-bit numbers (METHOD 2.5); gradients
// are those of the weights alone.
const ops *ops_open_as(const char *device, dtype activations);
// Before bytes[p] are allocated on every part p for `what` (a plural): nothing on the CPU; elsewhere prints the sizes,
// and sets each aside as one block. 0, or -1 and err_set where a part has too little room; then nothing is set aside.
int ops_plan(const ops *o, const size_t bytes[OPS_PARTS], const char *what);
int ops_reserve(const ops *o, const size_t bytes[OPS_PARTS], const char *what);  // the same without a line
// What the library of a GPU exports: the table of its GPUs number index[0..n), a part each (-1 - k: GPU k of those
// there, counted round); NULL, and why, where they cannot be used.
typedef const ops *ops_cuda_fn(const int *index, int n, char *why, size_t room);
// Seconds spent in matrix products and in attention since the program began (CPU: wall time of the calling thread).
extern double ops_seconds_gemm, ops_seconds_attention;
