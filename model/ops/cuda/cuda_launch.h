// cuda_launch - the seam between the operations (cuda_*.c, in C) and the kernels (cuda_*.cu): launchers with plain
// arguments, in stream order. An operation's arguments are those of ops.h. All pointers are device memory unless said
// otherwise.
#pragma once
#include "adamw.h"
#include "attn_heads.h"
#include "lowest.h"
#include "norm_shape.h"
#include <cuda_runtime_api.h>
#include <stdint.h>
#include "unit_sums.h"
#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_SPANS = 120,
    CUDA_SEQS = 68,
    CUDA_CHUNK = 2048,
    CUDA_WARPS = 4,
    CUDA_TILE = 32,
    CUDA_MMA_TILE = 64,
    CUDA_LISTED = 64
};

// The rows that a launch works on. They travel with the launch, so it needs no upload and nothing has to outlive it.
// first: blocks of the spans before; extra: the operation's own
typedef struct {
    int row, n, first, extra;
} cuda_span;
typedef struct {
    int n, blocks;
    cuda_span s[CUDA_SPANS];
} cuda_spans;
// as attn_seq; first: tiles before; seq: its place
typedef struct {
    const float *past_k, *past_v;
    const uint8_t *past_has;
    const int32_t *past_at;
    int row, n, from, past, first, seq;
} cuda_seq;
typedef struct {
    int n, tiles;
    cuda_seq s[CUDA_SEQS];
} cuda_seqs;
// as live_units; most: that the launch covers; unit NULL: all of them
typedef struct {
    const int32_t *unit;
    const uint8_t *wants;
    const int32_t *n_at;
    int n, most, seqs;
} cuda_live;
typedef struct {
    float *to[CUDA_SPANS];
} cuda_targets;  // an array of each span

// cuda_transformer_rows.cu. Element-wise: blocks of CUDA_CHUNK floats of a span. type: dtype of ckpt.h.
void cuda_launch_embed(float *y, const int32_t *tokens, const void *w, int type, int cols, const cuda_spans *s,
                       cudaStream_t st);
// rows first..
void cuda_launch_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, int first, int rows,
                            cudaStream_t st);
// extra: place in first
void cuda_launch_positions(float *x, const void *pos, int type, int cols, const int32_t *first, const cuda_spans *s,
                           cudaStream_t st);
// extra: place in at
void cuda_launch_append(const cuda_targets *to, const float *x, int width, const int32_t *at, const cuda_spans *s,
                        cudaStream_t st);
// table [.., D]; width = units * D; extra: place in first
void cuda_launch_rotate(float *x, const float *table, const int32_t *first, int width, int D, int R, float sign,
                        const cuda_spans *s, cudaStream_t st);
void cuda_launch_gate(float *y, const float *x, const float *gate, int width, const cuda_spans *s, cudaStream_t st);
void cuda_launch_add(float *y, const float *x, float scale, int width, const cuda_spans *s, cudaStream_t st);
// y = b or y += b
void cuda_launch_bias(float *y, const void *b, int type, int add, int width, const cuda_spans *s, cudaStream_t st);
// extra: first byte in units; value NULL: 0
void cuda_launch_drop(float *x, const float *value, const uint8_t *units, int U, int D, const cuda_spans *s,
                      cudaStream_t st);
// rows x cols numbers from rows of distance ld_from to rows of distance ld, or added to what is there
void cuda_launch_copy_rows(float *to, int ld, const float *from, int ld_from, int rows, int cols, int add,
                           cudaStream_t st);
// to += sums of rows first..
void cuda_launch_column_sums(float *to, const float *x, int first, int rows, int cols, cudaStream_t st);

// cuda_split.cu. split: rows of distance ld_from to CUDA_SPLIT arrays of rows of distance ld, of fp16 (half) or bf16
// numbers; shifts [rows]. join: the sums of their products, CUDA_SPLIT arrays of rows of distance ld, to rows of
// distance ldy, or added to them; bias NULL or of bias_type.
enum { CUDA_SPLIT = 3 };
void cuda_launch_split(void *to, int *shifts, int half, int ld, const float *x, int ld_from, int rows, int cols,
                       cudaStream_t st);
void cuda_launch_join(float *y, int ldy, const float *sums, int ld, const int *shifts, int half, const void *bias,
                      int bias_type, int rows, int cols, int add, cudaStream_t st);

// cuda_memory.cu. random: uniform numbers of (0, 1] to a type, within +-bound. sum += words, whose first call of a pass
// finds sum 0.
void cuda_launch_random(void *to, int type, const float *uniform, float bound, size_t n, cudaStream_t st);
// numbers of 2 or 4 bytes
void cuda_launch_transpose(void *to, const void *from, int bytes, int rows, int cols, cudaStream_t st);
// bytes: a multiple of 16
void cuda_launch_read(unsigned long long *sum, const void *p, size_t bytes, int processors, cudaStream_t st);

// cuda_round.cu. max: of |x[0..n)| as bit patterns, one a block, to part [CUDA_PARTS]; returns how many. round: x
// [rows, cols] of distance ld to a 16-bit type; part NULL: without a scale. A fault is host memory that kernels reach;
// the strings are the host's, which alone reads them.
enum { CUDA_PARTS = 256 };
typedef struct {
    const char *operation, *tensor;
} cuda_fault;
typedef struct {
    float *alpha;
    const float *with;
    const unsigned *part;
    int parts;
} cuda_scale;
int cuda_launch_max(unsigned *part, const float *x, size_t n, cudaStream_t st);
void cuda_launch_round(void *to, int type, cuda_scale s, const float *x, int rows, int cols, int ld, cuda_fault *fault,
                       const char *operation, const char *tensor, cudaStream_t st);

// cuda_transformer_norm.cu. Blocks of CUDA_WARPS rows of a span, but of norm: of cuda_norm_rows.
enum { CUDA_NORM_LEAST = 512, CUDA_NORM_MOST = 12288 };  // widths of rows that have a block each
#define CUDA_NORM_BY_WARP(h) ((h).E < CUDA_NORM_LEAST || (h).E > CUDA_NORM_MOST)
static inline int cuda_norm_rows(norm_shape h) { return CUDA_NORM_BY_WARP(h) ? CUDA_WARPS : 1; }
void cuda_launch_norm(float *y, const float *x, const float *g, const float *b, norm_shape h, const cuda_spans *s,
                      cudaStream_t st);
void cuda_launch_norm_back(float *dx, const float *dy, const float *x, const float *g, norm_shape h, int add,
                           const cuda_spans *s, cudaStream_t st);
void cuda_launch_norm_jvp(float *ty, const float *x, const float *tx, const float *g, norm_shape h, const cuda_spans *s,
                          cudaStream_t st);
void cuda_launch_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                               const float *g, norm_shape h, int add, const cuda_spans *s, cudaStream_t st);
// stat [rows, 2] scratch; db may be NULL
void cuda_launch_norm_grad(float *dg, float *db, float *stat, const float *dy, const float *x, norm_shape h, int first,
                           int rows, cudaStream_t st);

// cuda_transformer_gated.cu. Element-wise; the arrays that an operation does not have are NULL. act: activation of
// ckpt.h.
typedef struct {
    float *r, *dg, *du, *tr, *tdg, *tdu;
    const float *g, *u, *dr, *tg, *tu, *tdr;
} cuda_gated_arrays;
typedef enum { CUDA_GATED, CUDA_GATED_BACK, CUDA_GATED_JVP, CUDA_GATED_BACK_JVP } cuda_gated_what;
void cuda_launch_gated(const cuda_gated_arrays *x, cuda_gated_what what, int act, int width, const cuda_spans *s,
                       cudaStream_t st);

// cuda_transformer_attention.cu, _attention_jvp.cu. Tiles of CUDA_MMA_TILE queries of a sequence; of tangents
// CUDA_TILE. stat: [CUDA_STATS] floats per row and head, of rows base.. of the batch.
enum { CUDA_STATS = 5 };
void cuda_launch_attention(float *out, float *stat, const float *dout, const float *q, const float *k, const float *v,
                           int base, attn_heads h, cuda_live u, const cuda_seqs *s, cudaStream_t st);
void cuda_launch_attention_dkv(float *dk, float *dv, const float *stat, const float *dout, const float *q,
                               const float *k, const float *v, int base, attn_heads h, const cuda_seqs *keys,
                               cudaStream_t st);  // tiles of keys
void cuda_launch_attention_dq(float *dq, const float *stat, const float *dout, const float *q, const float *k,
                              const float *v, int base, attn_heads h, const cuda_seqs *s, cudaStream_t st);
// cuda_transformer_query.cu. One query of each sequence, over parts of its keys, of which there are `keys` at most.
// part: [sequences, u.most, CUDA_QUERY_PARTS, D + 2] scratch; counter: [sequences, u.most], 0 before and after.
enum { CUDA_QUERY_PARTS = 16 };
void cuda_launch_query(float *out, float *part, unsigned *counter, const float *q, const float *k, const float *v,
                       int keys, attn_heads h, cuda_live u, const cuda_seqs *s, cudaStream_t st);
typedef struct {
    const float *q, *k, *v, *tq, *tk, *tv, *dout, *tdout;
} cuda_tangents;
void cuda_launch_attention_jvp(float *tout, float *stat, const cuda_tangents *x, int base, attn_heads h,
                               const cuda_seqs *s, cudaStream_t st);
void cuda_launch_attention_tdkv(float *tdk, float *tdv, const float *stat, const cuda_tangents *x, int base,
                                attn_heads h, const cuda_seqs *keys, cudaStream_t st);
void cuda_launch_attention_tdq(float *tdq, const float *stat, const cuda_tangents *x, int base, attn_heads h,
                               const cuda_seqs *s, cudaStream_t st);

// cuda_live.cu. A block per row: x [rows, F], kept [rows].
void cuda_launch_keep_above(float *x, const float *by, int32_t *kept, float above, int rows, int F, cudaStream_t st);
// cuda_live_rows.cu. Numbers first .. first + count - 1 of those that units of D each have, in the order of a list.
// take_rows: rows of so many bytes. take, put_columns: `rows` rows of x or y, of distance ld, and rows of `count`.
typedef struct {
    const int32_t *unit;
    int D, first, count;
} cuda_live_part;
void cuda_launch_take_rows(void *to, const void *from, size_t bytes, const cuda_live_part *p, cudaStream_t st);
void cuda_launch_take_columns(float *to, const float *x, int ld, int rows, const cuda_live_part *p, cudaStream_t st);
void cuda_launch_put_columns(float *y, int ld, const float *from, const void *bias, int type, int relu, int rows,
                             const cuda_live_part *p, cudaStream_t st);

// cuda_live.cu. bytes: of each sequence, NULL: it runs none; wants may be NULL. heads.H 0: the bytes are of the units
// themselves.
typedef struct {
    const uint8_t *of[CUDA_LISTED];
    int layers;
    size_t list, wants, keep;  // how far those of two layers are apart, in numbers of each array
} cuda_bytes;
void cuda_launch_list_live(int32_t *list, uint8_t *wants, const cuda_bytes *bytes, int seqs, int U, attn_heads heads,
                           cudaStream_t st);
void cuda_launch_list_above(int32_t *list, const float *x, float above, int F, cudaStream_t st);

// cuda_few_rows.cu. For each of up to CUDA_MAPS maps y = x W' + bias (add: added to y) at columns of live units of D
// rows of W (rows, cols), then act (activation of ckpt.h; -1: none); gated: y of the first is act(y_0) y_1. low: x is
// rounded to what is above this bit, 0: not. bias: NULL, or of bias_type. turned: so many numbers of each unit are
// turned by the position, D and they even. cache: row position goes to `to` [cache - 1] too, 0: none. first: blocks of
// the maps before. gain: x goes through a norm before (shift may be NULL), and N(x) to h (may be NULL). held: that is
// done by each block, in shared memory: at most CUDA_HELD_ROWS rows, of up to CUDA_HELD_BYTES together, all of them and
// W aligned to 16 bytes. Of spans, first: rows of the spans before; blocks: rows of all; extra: the sequence, its place
// in position, where that of its first row is.
enum { CUDA_MAPS = 3, CUDA_CACHES = 60, CUDA_HELD_ROWS = 2, CUDA_HELD_BYTES = 47 << 10 };
typedef struct {
    float *y;
    const void *w, *bias;
    int bias_type, rows, D, turned, cache, first;
    cuda_live u;
} cuda_map;
typedef struct {
    cuda_map map[CUDA_MAPS];
    int n, cols, add, act, gated, held;
    unsigned low;
    norm_shape shape;
    const float *gain, *shift, *table;
    float *h;
    const int32_t *position;
    float *to[2][CUDA_CACHES];  // caches of K and of V of each span of the launch, or NULL
} cuda_map_list;
void cuda_launch_few_rows(const float *x, int type, const cuda_map_list *a, const cuda_spans *s, cudaStream_t st);

// cuda_few_columns.cu. y += x W + bias over the live rows of W (rows, cols), D a unit, by part [CUDA_FEW_PARTS, rows of
// x, cols], which is scratch, and counters, which are 0 before and after: of every 8 rows of x one for each
// CUDA_FEW_WIDE columns. low, bias, spans: as above.
enum { CUDA_FEW_PARTS = 16, CUDA_FEW_WIDE = 128 };
typedef struct {
    int rows, cols, D;
    unsigned low;
    const void *bias;
    int bias_type;
} few_columns_args;
void cuda_launch_few_columns(float *y, float *part, unsigned *counter, const float *x, const void *w, int type,
                             const few_columns_args *a, cuda_live u, const cuda_spans *s, cudaStream_t st);

// cuda_criteria_weights.cu. A block per row: sums [rows, 4] in the order of ops.h.
void cuda_launch_weight_sums(double *sums, const void *w, int type, const float *g, const float *h, int rows, int cols,
                             int add, cudaStream_t st);

// cuda_criteria_units.cu, _spectra.cu. Operations of the same names in ops.h. extra: the span's place, that is, its
// sums begin at sums + extra * units * USUMS.
void cuda_launch_unit_sums(double *sums, unsigned which, const unit_taps *x, int from, int units, const cuda_spans *s,
                           cudaStream_t st);
void cuda_launch_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, int most_rows,
                           const cuda_spans *s, cudaStream_t st);
void cuda_launch_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units, int most_rows,
                              const cuda_spans *s, cudaStream_t st);
// one span's
void cuda_launch_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int from,
                                int units, int rows, cudaStream_t st);
// one span's
void cuda_launch_gated_spectra(double *sums, const float *dg, const float *du, const float *corr, const float *stat,
                               int E, int F, int from, int units, int rows, cudaStream_t st);
// CUDA_WARPS rows a block
void cuda_launch_row_stats(float *stat, const float *x, int E, const cuda_spans *s, cudaStream_t st);
// CUDA_WARPS rows a block; y of norm 1
void cuda_launch_centre_rows(float *y, float *most, const float *x, int E, const cuda_spans *s, cudaStream_t st);

// cuda_criteria_columns.cu. extra: the span's place, that is, its moments begin at moments + extra * cols * 2.
void cuda_launch_column_moments(double *moments, const float *x, int ld, int relu, int from, int cols,
                                const cuda_spans *s, cudaStream_t st);
// turned: w holds the transpose
void cuda_launch_column_squares(double *squares, const void *w, int type, int rows, int cols, int turned,
                                cudaStream_t st);

// cuda_transformer_xent.cu. A block per row, but of likeliest: of cuda_likeliest_blocks, with as many numbers of part
// and a counter, which is 0 before and after, for each row.
enum { CUDA_LIKELIEST = 2048 };
static inline unsigned cuda_likeliest_blocks(int V) { return (unsigned)((V + CUDA_LIKELIEST - 1) / CUDA_LIKELIEST); }
void cuda_launch_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab,
                         int rows, cudaStream_t st);
void cuda_launch_likeliest(int32_t *token, int32_t *at, unsigned long long *part, unsigned *counter,
                           const float *logits, int V, int rows, cudaStream_t st);
void cuda_launch_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows, cudaStream_t st);
void cuda_launch_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V,
                               int rows, cudaStream_t st);

// cuda_nets.cu. part: a double for every CUDA_CHUNK of n. pool_softmax: scores [rows, T] of the queries first.. of a
// span, whose counts are count [T]; minmax: a block per span.
void cuda_launch_adamw(float *w, float *m, float *v, const float *g, const adamw *a, size_t n, cudaStream_t st);
void cuda_launch_loss(double *mean, double *part, float *dy, const float *y, const float *t, int bce, double positive,
                      float scale, size_t n, cudaStream_t st);
void cuda_launch_pool_softmax(float *score, float *lse, const float *count, int first, int rows, int T,
                              cudaStream_t st);
void cuda_launch_pool_softmax_back(float *score, const float *lse, const float *dp, const float *count, float scale,
                                   int first, int rows, int T, cudaStream_t st);
void cuda_launch_minmax(float *y, const float *x, int width, const cuda_spans *s, cudaStream_t st);

// cuda_nets_cut.cu. *bad becomes 1 where a score in a range is not finite. Ranges of up to CUDA_CUT_HELD scores in one
// launch; a longer one by blocks of CUDA_CUT_EACH, with scratch of cuda_cut_bytes(its length).
enum { CUDA_CUTS = 64, CUDA_CUT_HELD = 512 * 56, CUDA_CUT_EACH = 8192 };
typedef struct {
    int n;
    cut_range r[CUDA_CUTS];
} cuda_cuts;
void cuda_launch_cut(uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only, const cuda_cuts *c,
                     cudaStream_t st);
size_t cuda_cut_bytes(long n);
void cuda_launch_cut_long(void *scratch, uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only,
                          const cut_range *r, cudaStream_t st);
#ifdef __cplusplus
}
#endif
