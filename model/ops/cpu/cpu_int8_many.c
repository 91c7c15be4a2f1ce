// cpu_int8_many - products of weights in blocks with many rows of 8-bit numbers (cpu_int8.h), by AVX-512 with VNNI:
// sixteen rows of weights become a panel, which each group of rows of x passes. Of a block of 32 a panel holds its
// numbers p as unsigned bytes p + 128, four of a row side by side (the order in which VNNI adds up products), and the
// factors dw and m of each row. A group has the numbers q of its rows in that order, too, their factors, and
// -128 sum q, since the instruction multiplies signed bytes by unsigned ones.
//
// Other processors round the rows and multiply fp32 numbers.
#include "cpu_int8.h"
#include "cpu_thin.h"
#include "cpu_vec_q4k.h"
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PANEL = 16, MOST = 12, BLOCK = 32, FOURS = BLOCK / 4 };  // rows of weights; of x; numbers

// ---------------------------------------------------------------- rows of x
// n rows from `row` on, of span `seq`, then rows of zeros up to R.
typedef struct {
    int row, n, seq, R;
    int32_t *q, *less;  // [blocks, FOURS, R], four numbers each; [blocks, R]
    float *d, *sum;     // [blocks, R]
} group;
typedef struct {
    group *of;
    int n;
} groups;

static void fill_group(const group *g, const float *x, int cols) {
    const int blocks = cols / BLOCK, R = g->R;
    const scratch_point mark = scratch_mark();
    void *at = scratch_take(int8_row_bytes(cols));
    memset(g->q, 0, (size_t)blocks * FOURS * (size_t)R * sizeof *g->q);
    memset(g->d, 0, (size_t)blocks * (size_t)R * sizeof *g->d);
    memset(g->sum, 0, (size_t)blocks * (size_t)R * sizeof *g->sum);
    memset(g->less, 0, (size_t)blocks * (size_t)R * sizeof *g->less);
    for (int r = 0; r < g->n; r++) {
        const int8_row of = int8_row_make(at, x + (size_t)(g->row + r) * (size_t)cols, cols);
        for (int b = 0; b < blocks; b++) {
            int32_t sum = 0;
            for (int i = 0; i < BLOCK; i++) sum += of.q[b * BLOCK + i];
            for (int j = 0; j < FOURS; j++) memcpy(&g->q[(b * FOURS + j) * R + r], of.q + b * BLOCK + 4 * j, 4);
            g->d[b * R + r] = of.d[b];
            g->sum[b * R + r] = of.sum[b];
            g->less[b * R + r] = -128 * sum;
        }
    }
    scratch_release(mark);
}

// Of `left` rows, those that go together.
static int size_of_group(int left) {
    if (left > 8) return MOST;
    return left > 4 ? 8 : 4;
}

// Groups of the rows of the spans of many rows.
static groups make_groups(const float *x, int cols, const span *s, int n) {
    const size_t blocks = (size_t)cols / BLOCK;
    groups all = {0};
    for (int i = 0; i < n; i++) all.n += s[i].n >= CPU_THIN ? (s[i].n + MOST - 1) / MOST : 0;
    all.of = scratch_take((size_t)all.n * sizeof *all.of);
    group *g = all.of;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n && s[i].n >= CPU_THIN; t += g++->n) {
            const int left = s[i].n - t, R = size_of_group(left);
            const size_t each = blocks * (size_t)R;
            *g = (group){s[i].row + t,
                         left < R ? left : R,
                         i,
                         R,
                         scratch_take(each * FOURS * sizeof *g->q),
                         scratch_take(each * sizeof *g->less),
                         scratch_floats(each),
                         scratch_floats(each)};
        }
#pragma omp parallel for schedule(static)
    for (int k = 0; k < all.n; k++) fill_group(&all.of[k], x, cols);
    return all;
}

// ---------------------------------------------------------------- panels
typedef struct {
    uint8_t *p;     // [blocks, FOURS, PANEL, 4]
    float *dw, *m;  // [blocks, PANEL]
} panel;

// Of whole pairs of blocks.
static panel panel_new(int cols) {
    const size_t blocks = ((size_t)cols / BLOCK + 1) / 2 * 2;
    return (panel){scratch_take(blocks * BLOCK * PANEL), scratch_floats(blocks * PANEL),
                   scratch_floats(blocks * PANEL)};
}

typedef uint8_t bytes16 __attribute__((vector_size(BLOCK / 2)));
static bytes16 take16(const uint8_t *p) {
    bytes16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static void put16(int8_t *to, bytes16 v) { memcpy(to, &v, sizeof v); }

static void block_of(int8_t to[BLOCK], float *dw, float *m, dtype type, const uint8_t *row, int b, k_scales *k) {
    const uint8_t *at = row;
    *m = 0;
    if (type != DT_Q4_K) at += dtype_size(type, BLOCK) * (size_t)b;
    if (type == DT_Q8_0) {
        *dw = half_at(at);
        memcpy(to, at + 2, BLOCK);
        return;
    }
    if (type == DT_Q4_K) {
        if (b % 8 == 0) k_scales_at(k, row, b / 8);
        *dw = k->step[b % 8], *m = -k->less[b % 8];
        at = k_bytes(row, b);
        for (int i = 0; i < BLOCK; i += BLOCK / 2)
            put16(to + i, b % 2 ? take16(at + i) >> 4 : (bytes16)(take16(at + i) & 15));
        return;
    }
    *dw = half_at(at);
    if (type == DT_Q4_1) *m = half_at(at + 2);
    at += type == DT_Q4_1 ? 4 : 2;
    const uint8_t less = type == DT_Q4_0 ? 8 : 0;
    const bytes16 q = take16(at);
    put16(to, (q & 15) - less);
    put16(to + BLOCK / 2, (q >> 4) - less);
}

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
// Numbers of two blocks of each row into a panel: sixteen rows of sixteen fours become sixteen columns.
TARGET static void pack(const panel *to, int b, int8_t numbers[PANEL][2 * BLOCK]) {
    __m512i r[PANEL], t[PANEL];
    for (int i = 0; i < PANEL; i++)
        r[i] = _mm512_xor_si512(_mm512_loadu_si512(numbers[i]), _mm512_set1_epi8((char)0x80));
    for (int i = 0; i < PANEL; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < PANEL; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {  // each holds a quarter of four rows, by fours of columns
        const __m512i k = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88), l = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd),
                      m = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88),
                      n = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
        t[i] = _mm512_shuffle_i32x4(k, m, 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(l, n, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(k, m, 0xdd);
        t[i + 12] = _mm512_shuffle_i32x4(l, n, 0xdd);
    }
    for (int i = 0; i < PANEL; i++) _mm512_storeu_si512(to->p + ((size_t)b * FOURS + (size_t)i) * PANEL * 4, t[i]);
}

// out [R, PANEL] for the rows of a group. A block's sum is one of integers; blocks add up in their order.
TARGET static inline __attribute__((always_inline)) void multiply(float *out, const panel *w, const group *x,
                                                                  const int R, int blocks, const bool least) {
    __m512 sum[MOST];
    for (int r = 0; r < R; r++) sum[r] = _mm512_setzero_ps();
    const int32_t *q = x->q;
    for (int b = 0; b < blocks; b++) {
        const uint8_t *p = w->p + b * BLOCK * PANEL;
        __m512i of[MOST];
        for (int r = 0; r < R; r++) of[r] = _mm512_set1_epi32(x->less[b * R + r]);
        for (int j = 0; j < FOURS; j++, q += R) {
            const __m512i four = _mm512_loadu_si512(p + 4 * PANEL * j);
            for (int r = 0; r < R; r++) of[r] = _mm512_dpbusd_epi32(of[r], four, _mm512_set1_epi32(q[r]));
        }
        const __m512 dw = _mm512_loadu_ps(w->dw + b * PANEL), m = _mm512_loadu_ps(w->m + b * PANEL);
        for (int r = 0; r < R; r++) {
            sum[r] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(of[r]), _mm512_mul_ps(dw, _mm512_set1_ps(x->d[b * R + r])), sum[r]);
            if (least) sum[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(x->sum[b * R + r]), sum[r]);
        }
    }
    for (int r = 0; r < R; r++) _mm512_storeu_ps(out + r * PANEL, sum[r]);
}

// How many rows go together changes no number.
TARGET static void multiply_group(float *out, const panel *w, const group *x, int blocks, bool least) {
    if (x->R == MOST && least) return multiply(out, w, x, MOST, blocks, true);
    if (x->R == MOST) return multiply(out, w, x, MOST, blocks, false);
    if (x->R == 8) return multiply(out, w, x, 8, blocks, least);
    multiply(out, w, x, 4, blocks, least);
}
#else
static void pack(const panel *to, int b, int8_t numbers[PANEL][2 * BLOCK]) { (void)to, (void)b, (void)numbers; }
static void multiply_group(float *out, const panel *w, const group *x, int blocks, bool least) {
    (void)out, (void)w, (void)x, (void)blocks, (void)least;
    ASSERT(!"no panels here");
}
#endif

// A panel of n rows, then zeros.
static void fill(const panel *to, dtype type, const uint8_t *const *row, int n, int blocks) {
    int8_t numbers[PANEL][2 * BLOCK] = {{0}};
    k_scales k[PANEL];
    memset(to->dw, 0, sizeof *to->dw * (size_t)blocks * PANEL);
    memset(to->m, 0, sizeof *to->m * (size_t)blocks * PANEL);
    for (int b = 0; b < blocks; b += 2) {
        for (int i = 0; i < n; i++)
            for (int h = 0; h < 2 && b + h < blocks; h++) {
                const int at = (b + h) * PANEL + i;
                block_of(numbers[i] + h * BLOCK, &to->dw[at], &to->m[at], type, row[i], b + h, &k[i]);
            }
        pack(to, b, numbers);
    }
}

bool cpu_int8_has_panels(void) { return strcmp(int8_set()->name, "avx512") == 0; }

// ---------------------------------------------------------------- y = x W' + b
// Rows from .. of the list, at most PANEL of them, for all groups.
static void one_panel(const cpu_product *p, const cpu_row_list *list, const groups *x, int from) {
    const int blocks = p->w->cols / BLOCK, out = p->w->rows, some = list->n - from < PANEL ? list->n - from : PANEL;
    const bool least = p->w->type == DT_Q4_1 || p->w->type == DT_Q4_K;
    const bool as_it_is = !list->u && !p->b && !p->add && !p->relu;  // rows side by side, nothing to add
    const scratch_point mark = scratch_mark();
    const panel w = panel_new(p->w->cols);
    int row[PANEL];
    float z[MOST * PANEL];
    const uint8_t *data[PANEL];
    for (int i = 0; i < some; i++) {
        row[i] = cpu_row_number(list, from + i);
        data[i] = cpu_row_data(list, row[i]);
    }
    fill(&w, p->w->type, data, some, blocks);
    for (const group *g = x->of; g < x->of + x->n; g++) {
        multiply_group(z, &w, g, blocks, least);
        for (int r = 0; r < g->n; r++) {
            float *y = p->y + (size_t)(g->row + r) * (size_t)out;
            if (as_it_is) {
                memcpy(y + from, z + r * PANEL, (size_t)some * sizeof *y);
                continue;
            }
            for (int i = 0; i < some; i++)
                if (cpu_wants(list->u, (from + i) / list->D, g->seq))
                    y[row[i]] = cpu_finish(p, z[r * PANEL + i], y[row[i]], row[i]);
        }
    }
    scratch_release(mark);
}

void cpu_int8_many(const cpu_product *p, const live_units *u, int D, const span *s, int n) {
    if (!cpu_has_many(s, n)) return;
    const cpu_row_list list = cpu_list_rows(p->w, u, D);
    const scratch_point mark = scratch_mark();
    const groups x = make_groups(p->x, p->w->cols, s, n);
#pragma omp parallel for schedule(dynamic)
    for (int from = 0; from < list.n; from += PANEL) one_panel(p, &list, &x, from);
    scratch_release(mark);
}

// ---------------------------------------------------------------- without panels
const float *cpu_int8_rounded(const float *x, int cols, const span *s, int n) {
    int end = 0;
    for (int i = 0; i < n; i++) end = s[i].row + s[i].n > end ? s[i].row + s[i].n : end;
    float *to = scratch_floats((size_t)end * (size_t)cols + 1);
    for (int i = 0; i < n; i++)
#pragma omp parallel for schedule(static) if (s[i].n >= CPU_THIN)
        for (int r = s[i].row; r < s[i].row + s[i].n; r++) {
            float *row = to + (size_t)r * (size_t)cols;
            memcpy(row, x + (size_t)r * (size_t)cols, (size_t)cols * sizeof *row);
            if (s[i].n < CPU_THIN) continue;
            const scratch_point mark = scratch_mark();
            const int8_row of = int8_row_make(scratch_take(int8_row_bytes(cols)), row, cols);
            for (int c = 0; c < cols; c++) row[c] = of.d[c / BLOCK] * (float)of.q[c];
            scratch_release(mark);
        }
    return to;
}
