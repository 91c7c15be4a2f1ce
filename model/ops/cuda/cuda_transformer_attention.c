// cuda_transformer_attention - causal attention, its gradient and tangents, as launches (kernels in
// cuda_transformer_attention.cu, _attention_jvp.cu, _query.cu).
#include "cuda_transformer_attention.h"

// Sequences of one query whose parts (cuda_launch_query) fit the workspace, and their counters.
static int most_queries(int H) {
    const size_t floats = (size_t)H * CUDA_QUERY_PARTS * 130, fit = g->work_bytes / sizeof(float) / floats;
    const int counted = COUNTERS / H < CUDA_SEQS ? COUNTERS / H : CUDA_SEQS;
    return fit < (size_t)counted ? (int)fit : counted;
}

// Sequences from *at on, as many as a launch takes, and as row sums of them fit the workspace, by tiles of so many of
// their queries from.. or of all their keys; or only those of several queries, or of one. *base: the first row.
typedef enum { BY_QUERY, BY_KEY, OF_SEVERAL, OF_ONE } seq_choice;
static bool next_seqs(cuda_seqs *out, const attn_seq *s, int n, int *at, seq_choice choice, int tile, int H,
                      int *base) {
    const int most = choice == OF_ONE ? most_queries(H) : CUDA_SEQS;
    out->n = out->tiles = 0;
    for (; *at < n && out->n < most; ++*at) {
        const attn_seq *q = &s[*at];
        if (out->n == 0) *base = q->s.row;
        if (choice <= BY_KEY && H && out->n &&
            (size_t)(q->s.row + q->s.n - *base) * (size_t)H * CUDA_STATS * sizeof(float) > g->work_bytes)
            break;
        const int rows = choice == BY_KEY ? q->s.n : q->s.n - q->from;
        if (rows <= 0 || (choice == OF_SEVERAL && rows == 1) || (choice == OF_ONE && rows != 1)) continue;
        out->s[out->n++] = (cuda_seq){q->past_k, q->past_v, q->past_has, q->past_at, q->s.row,
                                      q->s.n,    q->from,   q->past,     out->tiles, *at};
        out->tiles += (rows + tile - 1) / tile;
    }
    return out->n > 0;
}

static void check_heads(const attn_heads *h) {
    if (h->D > 128) die(1, "%s: heads of %d values; the CUDA kernels take up to 128", g->name, h->D);
}

void gpu_attend(float *out, const float *q, const float *k, const float *v, attn_heads h, cuda_live u,
                const attn_seq *s, int n) {
    check_heads(&h);
    cuda_seqs seqs;
    int base;
    for (int at = 0; next_seqs(&seqs, s, n, &at, OF_SEVERAL, CUDA_MMA_TILE, 0, &base);)
        cuda_launch_attention(out, NULL, NULL, q, k, v, 0, h, u, &seqs, g->stream);
    int keys = 1;
    for (int i = 0; i < n; i++) {
        const int most = s[i].s.n + (s[i].past_at ? s[i].past_most : s[i].past);
        keys = most > keys ? most : keys;
    }
    const gpu_work_point mark = gpu_work_mark();
    float *part = gpu_work(g->work_bytes);
    for (int at = 0; next_seqs(&seqs, s, n, &at, OF_ONE, 1, h.H, &base);)
        cuda_launch_query(out, part, g->counters, q, k, v, keys, h, u, &seqs, g->stream);
    gpu_work_release(mark);
    LAUNCHED("attention");
}

void cuda_attention(float *out, const float *q, const float *k, const float *v, const attn_heads *h, const attn_seq *s,
                    int n) {
    gpu_attend(out, q, k, v, *h, gpu_all_units(h->H), s, n);
}

// Rows of dq before `from` have no gradient.
static void clear_before(float *dq, int E, const attn_seq *s, int n) {
    for (int i = 0; i < n; i++)
        if (s[i].from > 0) cuda_zero(dq + (size_t)s[i].s.row * (size_t)E, (size_t)s[i].from * (size_t)E * sizeof *dq);
}

// The sequences of one pass over the row sums, by keys.
static void by_keys(cuda_seqs *keys, const attn_seq *s, int from, int to, int tile) {
    int at = from, base;
    next_seqs(keys, s, to, &at, BY_KEY, tile, 0, &base);
}

void cuda_attention_back(float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k,
                         const float *v, const attn_heads *h, const attn_seq *s, int n) {
    check_heads(h);
    clear_before(dq, h->H * h->D, s, n);
    const gpu_work_point mark = gpu_work_mark();
    float *stat = gpu_work(g->work_bytes);
    cuda_seqs seqs, keys;
    for (int at = 0, from, base; from = at, next_seqs(&seqs, s, n, &at, BY_KEY, CUDA_MMA_TILE, h->H, &base);) {
        by_keys(&keys, s, from, at, CUDA_MMA_TILE);
        int again = from;
        if (next_seqs(&seqs, s, at, &again, BY_QUERY, CUDA_MMA_TILE, 0, &(int){0}))
            cuda_launch_attention(NULL, stat, dout, q, k, v, base, *h, gpu_all_units(h->H), &seqs, g->stream);
        cuda_launch_attention_dkv(dk, dv, stat, dout, q, k, v, base, *h, &keys, g->stream);
        if (seqs.n) cuda_launch_attention_dq(dq, stat, dout, q, k, v, base, *h, &seqs, g->stream);
    }
    gpu_work_release(mark);
    LAUNCHED("attention_back");
}

void cuda_attention_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk,
                        const float *tv, const attn_heads *h, const attn_seq *s, int n) {
    check_heads(h);
    const cuda_tangents x = {q, k, v, tq, tk, tv, NULL, NULL};
    cuda_seqs seqs;
    for (int at = 0, base; next_seqs(&seqs, s, n, &at, BY_QUERY, CUDA_TILE, 0, &base);)
        cuda_launch_attention_jvp(tout, NULL, &x, 0, *h, &seqs, g->stream);
    LAUNCHED("attention_jvp");
}

void cuda_attention_back_jvp(float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q,
                             const float *k, const float *v, const float *tq, const float *tk, const float *tv,
                             const attn_heads *h, const attn_seq *s, int n) {
    check_heads(h);
    const cuda_tangents x = {q, k, v, tq, tk, tv, dout, tdout};
    clear_before(tdq, h->H * h->D, s, n);
    const gpu_work_point mark = gpu_work_mark();
    float *stat = gpu_work(g->work_bytes);
    cuda_seqs seqs, keys;
    for (int at = 0, from, base; from = at, next_seqs(&seqs, s, n, &at, BY_KEY, CUDA_TILE, h->H, &base);) {
        by_keys(&keys, s, from, at, CUDA_TILE);
        int again = from;
        if (next_seqs(&seqs, s, at, &again, BY_QUERY, CUDA_TILE, 0, &(int){0}))
            cuda_launch_attention_jvp(NULL, stat, &x, base, *h, &seqs, g->stream);
        cuda_launch_attention_tdkv(tdk, tdv, stat, &x, base, *h, &keys, g->stream);
        if (seqs.n) cuda_launch_attention_tdq(tdq, stat, &x, base, *h, &seqs, g->stream);
    }
    gpu_work_release(mark);
    LAUNCHED("attention_back_jvp");
}
