// cpu_int8_many - products of weights in blocks with many rows of 8-bit numbers (cpu_int8.h), by AVX-512 with VNNI:
// sixteen rows of weights become a panel, which each group of rows of x passes. Of a block of 32 a panel holds its
// numbers p as bytes, four of a row side by side (the order in which VNNI adds up products), the factors dw and m of
// each row, and -128 sum p: the instruction multiplies signed bytes by unsigned ones, q + 128.
//
// Other processors round the rows and multiply fp32 numbers.
#include "cpu_int8.h"
#include "cpu_thin.h"
#include "cpu_vec_q4k.h"
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PANEL = 16, MOST = 12, BLOCK = 32 };  // rows of weights; of x

// ---------------------------------------------------------------- rows of x
// Rows of the spans of many rows, at their places: q as unsigned bytes.
static int8_row *make_rows(const float *x, int cols, const span *s, int n) {
    int end = 0;
    for (int i = 0; i < n; i++) end = s[i].n >= CPU_THIN && s[i].row + s[i].n > end ? s[i].row + s[i].n : end;
    int8_row *to = scratch_take((size_t)end * sizeof *to);
    const size_t bytes = int8_row_bytes(cols);
    char *memory = scratch_take((size_t)end * bytes);
    for (int i = 0; i < n; i++)
        if (s[i].n >= CPU_THIN)
#pragma omp parallel for schedule(static)
            for (int r = s[i].row; r < s[i].row + s[i].n; r++)
                to[r] = int8_row_make(memory + (size_t)r * bytes, x + (size_t)r * (size_t)cols, cols);
    return to;
}

// ---------------------------------------------------------------- panels
typedef struct {
    int8_t *p;      // [blocks, 8, PANEL, 4]
    int32_t *less;  // [blocks, PANEL]
    float *dw, *m;  // [blocks, PANEL]
} panel;

static panel panel_new(int cols) {
    const size_t blocks = (size_t)cols / BLOCK;
    return (panel){scratch_take(blocks * BLOCK * PANEL), scratch_take(blocks * PANEL * sizeof(int32_t)),
                   scratch_floats(blocks * PANEL), scratch_floats(blocks * PANEL)};
}

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
        for (int i = 0; i < BLOCK; i++) to[i] = (int8_t)(at[i] >> 4 * (b % 2) & 15);
        return;
    }
    *dw = half_at(at);
    if (type == DT_Q4_1) *m = half_at(at + 2);
    at += type == DT_Q4_1 ? 4 : 2;
    const int less = type == DT_Q4_0 ? 8 : 0;
    for (int i = 0; i < BLOCK / 2; i++) {
        to[i] = (int8_t)((at[i] & 15) - less);
        to[i + BLOCK / 2] = (int8_t)((at[i] >> 4) - less);
    }
}

// Row i of a panel; row NULL: zeros.
static void fill_row(const panel *to, int i, dtype type, const uint8_t *row, int blocks) {
    int8_t p[BLOCK] = {0};
    k_scales k;
    for (int b = 0; b < blocks; b++) {
        float dw = 0, m = 0;
        int32_t all = 0;
        if (row) block_of(p, &dw, &m, type, row, b, &k);
        for (int j = 0; j < BLOCK; j++) all += p[j];
        for (int j = 0; j < BLOCK / 4; j++) memcpy(to->p + ((b * 8 + j) * PANEL + i) * 4, p + 4 * j, 4);
        to->less[b * PANEL + i] = -128 * all;
        to->dw[b * PANEL + i] = dw, to->m[b * PANEL + i] = m;
    }
}

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
// out [R, PANEL] for rows x. A block's sum is one of integers; blocks add up in their order.
TARGET static inline __attribute__((always_inline)) void multiply(float *out, const panel *w, const int8_row *x,
                                                                  const int R, int blocks, bool least) {
    __m512 sum[MOST];
    const __m512i half = _mm512_set1_epi8((char)0x80);
    for (int r = 0; r < R; r++) sum[r] = _mm512_setzero_ps();
    for (int b = 0; b < blocks; b++) {
        const int8_t *p = w->p + b * BLOCK * PANEL;
        __m512i of[MOST];
        for (int r = 0; r < R; r++) of[r] = _mm512_loadu_si512(w->less + b * PANEL);
        for (int j = 0; j < 8; j++) {
            const __m512i four = _mm512_loadu_si512(p + 4 * PANEL * j);
            for (int r = 0; r < R; r++) {
                int32_t q;
                memcpy(&q, x[r].q + b * BLOCK + 4 * j, sizeof q);
                of[r] = _mm512_dpbusd_epi32(of[r], _mm512_xor_si512(_mm512_set1_epi32(q), half), four);
            }
        }
        const __m512 dw = _mm512_loadu_ps(w->dw + b * PANEL), m = _mm512_loadu_ps(w->m + b * PANEL);
        for (int r = 0; r < R; r++) {
            sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(of[r]), _mm512_mul_ps(dw, _mm512_set1_ps(x[r].d[b])), sum[r]);
            if (least) sum[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(x[r].sum[b]), sum[r]);
        }
    }
    for (int r = 0; r < R; r++) _mm512_storeu_ps(out + r * PANEL, sum[r]);
}

// The same for up to MOST rows; which of them go together changes no number.
TARGET static int some_rows(float *out, const panel *w, const int8_row *x, int n, int blocks, bool least) {
    if (n >= MOST) return multiply(out, w, x, MOST, blocks, least), MOST;
    if (n >= 8) return multiply(out, w, x, 8, blocks, least), 8;
    if (n >= 4) return multiply(out, w, x, 4, blocks, least), 4;
    return multiply(out, w, x, 1, blocks, least), 1;
}
#else
static int some_rows(float *out, const panel *w, const int8_row *x, int n, int blocks, bool least) {
    (void)out, (void)w, (void)x, (void)blocks, (void)least;
    ASSERT(!"no panels here");
    return n;
}
#endif

bool cpu_int8_has_panels(void) { return strcmp(int8_set()->name, "avx512") == 0; }

// ---------------------------------------------------------------- y = x W' + b
// Rows from .. of the list, at most PANEL of them, for all spans.
static void one_panel(const cpu_product *p, const cpu_row_list *list, const int8_row *x, const span *s, int n,
                      int from) {
    const int blocks = p->w->cols / BLOCK, out = p->w->rows, some = list->n - from < PANEL ? list->n - from : PANEL;
    const bool least = p->w->type == DT_Q4_1 || p->w->type == DT_Q4_K;
    const scratch_point mark = scratch_mark();
    const panel w = panel_new(p->w->cols);
    int row[PANEL];
    float z[MOST * PANEL];
    for (int i = 0; i < PANEL; i++) {
        if (i < some) row[i] = cpu_row_number(list, from + i);
        fill_row(&w, i, p->w->type, i < some ? cpu_row_data(list, row[i]) : NULL, blocks);
    }
    for (int k = 0; k < n; k++) {
        if (s[k].n < CPU_THIN) continue;
        for (int t = 0, done; t < s[k].n; t += done) {
            done = some_rows(z, &w, x + s[k].row + t, s[k].n - t, blocks, least);
            for (int r = 0; r < done; r++) {
                float *y = p->y + (size_t)(s[k].row + t + r) * (size_t)out;
                for (int i = 0; i < some; i++)
                    if (cpu_wants(list->u, (from + i) / list->D, k))
                        y[row[i]] = cpu_finish(p, z[r * PANEL + i], y[row[i]], row[i]);
            }
        }
    }
    scratch_release(mark);
}

void cpu_int8_many(const cpu_product *p, const live_units *u, int D, const span *s, int n) {
    if (!cpu_has_many(s, n)) return;
    const cpu_row_list list = cpu_list_rows(p->w, u, D);
    const scratch_point mark = scratch_mark();
    const int8_row *x = make_rows(p->x, p->w->cols, s, n);
#pragma omp parallel for schedule(dynamic)
    for (int from = 0; from < list.n; from += PANEL) one_panel(p, &list, x, s, n, from);
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
