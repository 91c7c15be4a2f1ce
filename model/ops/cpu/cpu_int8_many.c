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
// Numbers [PANEL, BLOCK] of one block of each row into a panel.
TARGET static void pack(const panel *to, int b, int8_t numbers[PANEL][BLOCK]) {
    const __m512i row = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                           _mm512_set1_epi32(BLOCK));
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < BLOCK / 4; j++) {
        const __m512i four = _mm512_i32gather_epi32(row, numbers[0] + 4 * j, 1);
        _mm512_storeu_si512(to->p + (b * 8 + j) * PANEL * 4, four);
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8((char)0x80), four);
    }
    _mm512_storeu_si512(to->less + b * PANEL, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

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
static void pack(const panel *to, int b, int8_t numbers[PANEL][BLOCK]) { (void)to, (void)b, (void)numbers; }
static int some_rows(float *out, const panel *w, const int8_row *x, int n, int blocks, bool least) {
    (void)out, (void)w, (void)x, (void)blocks, (void)least;
    ASSERT(!"no panels here");
    return n;
}
#endif

// A panel of n rows, then zeros.
static void fill(const panel *to, dtype type, const uint8_t *const *row, int n, int blocks) {
    int8_t numbers[PANEL][BLOCK] = {{0}};
    k_scales k[PANEL];
    memset(to->dw, 0, sizeof *to->dw * (size_t)blocks * PANEL);
    memset(to->m, 0, sizeof *to->m * (size_t)blocks * PANEL);
    for (int b = 0; b < blocks; b++) {
        for (int i = 0; i < n; i++)
            block_of(numbers[i], &to->dw[b * PANEL + i], &to->m[b * PANEL + i], type, row[i], b, &k[i]);
        pack(to, b, numbers);
    }
}

bool cpu_int8_has_panels(void) { return strcmp(int8_set()->name, "avx512") == 0; }

// ---------------------------------------------------------------- y = x W' + b
// Rows from .. of the list, at most PANEL of them, for all spans.
static void one_panel(const cpu_product *p, const cpu_row_list *list, const int8_row *x, const span *s, int n,
                      int from) {
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
    for (int k = 0; k < n; k++) {
        if (s[k].n < CPU_THIN) continue;
        for (int t = 0, done; t < s[k].n; t += done) {
            done = some_rows(z, &w, x + s[k].row + t, s[k].n - t, blocks, least);
            for (int r = 0; r < done; r++) {
                float *y = p->y + (size_t)(s[k].row + t + r) * (size_t)out;
                if (as_it_is) {
                    memcpy(y + from, z + r * PANEL, (size_t)some * sizeof *y);
                    continue;
                }
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
