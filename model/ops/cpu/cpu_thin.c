// cpu_thin - products and attention of few rows. Contract in cpu_thin.h.
#include "cpu_thin.h"
#include "cpu_int8.h"
#include "cpu_team.h"
#include "cpu_vec.h"
#include "simd.h"
#include <math.h>
#include <omp.h>
#include <stdatomic.h>

enum {
    GROUP = 64,         // rows of weights, keys or values that a kernel gets at once
    BLOCKS = 32,        // partial sums of a transposed product, at most
    MOST_ROWS = 32,     // rows of x that share a pass over a transposed weight
    W_BYTES = 1 << 18,  // of weights that stay in the second-level cache while blocks of x pass
    X_BYTES = 1 << 15   // of such a block
};

// ---------------------------------------------------------------- rows of x, rows of weights
typedef struct {
    int row, seq;
    const int8_row *q;
} source;  // a row of x, the span it belongs to, and its 8-bit numbers where products take those

// The rows of the spans that are few.
static int list_rows(source *to, const span *s, int n) {
    int k = 0;
    for (int i = 0; i < n; i++)
        if (s[i].n < CPU_THIN)
            for (int t = 0; t < s[i].n; t++) to[k++] = (source){s[i].row + t, i, NULL};
    return k;
}

static int count_rows(const span *s, int n) {
    int k = 0;
    for (int i = 0; i < n; i++) k += s[i].n;
    return k;
}

// Rows from .. from + n of the list, n <= GROUP: their numbers and data, and those of the next VEC_AHEAD rows (at the
// end the last again), which are fetched meanwhile.
typedef struct {
    int32_t row[GROUP + VEC_AHEAD];
    const void *data[GROUP + VEC_AHEAD];
    vec_rows rows;
} group;
static void take_rows(group *g, const cpu_row_list *r, int from, int n) {
    const int all = n + VEC_AHEAD, there = from + all < r->n ? all : r->n - from;
    if (!r->u) {
        const char *data = cpu_row_data(r, from);
        for (int i = 0; i < there; i++, data += r->bytes) g->row[i] = from + i, g->data[i] = data;
    } else {
        for (int i = 0, unit = from / r->D, d = from % r->D; i < there; unit++, d = 0)
            for (; d < r->D && i < there; d++) g->row[i++] = r->u->unit[unit] * r->D + d;
        for (int i = 0; i < there; i++) g->data[i] = cpu_row_data(r, g->row[i]);
    }
    for (int i = there; i < all; i++) g->data[i] = g->data[there - 1];
    g->rows = (vec_rows){g->data, n, true};
}

// ---------------------------------------------------------------- y = x W' + b
// A product among those that threads share at once: its steps come after those of the products before it.
typedef struct {
    const cpu_product *p;
    cpu_row_list list;
    const int8_kernels *int8;
    const vec_kernels *vec;
    int step, first, end;  // rows of a step; its steps
} thin_part;

// How many rows of the list from `from` on, `most` at most, the kernel takes at once: those of one unit, which are
// wanted by the same sequences. It takes many rows in little more time than few: so units of few rows, such as neurons,
// are `mixed`, computed for all rows of x, and what one does not want is left as it is.
static int stretch_of(const cpu_row_list *list, int from, int most, bool *mixed) {
    enum { ENOUGH = 8 };
    const bool all = !list->u || !list->u->wants;
    const int left = list->D - from % list->D;
    *mixed = !all && list->D < ENOUGH;
    return all || *mixed || left > most ? most : left;
}

// Whether a row of x wants one of the list's rows from .. from + n.
static bool wants_some(const cpu_row_list *list, int from, int n, int seq) {
    for (int k = from / list->D; k <= (from + n - 1) / list->D; k++)
        if (cpu_wants(list->u, k, seq)) return true;
    return false;
}

// Outputs of n rows of the weight, numbered `row`, at place `from` of the list, from the rows of x that want them.
static void thin_group(const thin_part *of, const source *rows, int n, int from, bool mixed, const int32_t *row,
                       vec_rows w) {
    const cpu_product *p = of->p;
    const cpu_row_list *list = &of->list;
    const int in = p->w->cols, out = p->w->rows;
    for (int r = 0; r < n;) {
        const float *x[VEC_ROWS];
        const int8_row *q[VEC_ROWS];
        float *y[VEC_ROWS], sum[GROUP * VEC_ROWS];
        int m = 0, seq[VEC_ROWS];
        for (; r < n && m < VEC_ROWS; r++) {
            if (!wants_some(list, from, mixed ? w.n : 1, rows[r].seq)) continue;
            x[m] = p->x + (size_t)rows[r].row * (size_t)in;
            q[m] = rows[r].q;
            seq[m] = rows[r].seq;
            y[m++] = p->y + (size_t)rows[r].row * (size_t)out;
        }
        if (!m) break;
        if (p->int8)
            of->int8->dot[p->w->type](sum, &w, q, m, in);
        else
            of->vec->dot[p->w->type](sum, &w, x, m, in);
        w.fetch = false;
        for (int j = 0; j < m; j++)
            for (int i = 0; i < w.n; i++) {
                const float was = y[j][row[i]], is = cpu_finish(p, sum[i * m + j], was, row[i]);
                y[j][row[i]] = !mixed || cpu_wants(list->u, (from + i) / list->D, seq[j]) ? is : was;
            }
    }
}

static void thin_rows(const thin_part *of, const source *rows, int n, int from, int to, bool fetch) {
    const cpu_row_list *list = &of->list;
    group g;
    for (int i = from; i < to; i += GROUP) {
        const int m = to - i < GROUP ? to - i : GROUP;
        take_rows(&g, list, i, m);
        for (int j = 0, k; j < m; j += k) {
            bool mixed;
            k = stretch_of(list, i + j, m - j, &mixed);
            const vec_rows some = {g.data + j, k, g.rows.fetch && fetch};
            thin_group(of, rows, n, i + j, mixed, g.row + j, some);
        }
    }
}

static int at_least(int x, int least) { return x < least ? least : x; }

// Work in steps, a stretch of them for each thread, which it takes one by one in the order of memory; then it helps the
// others. What is taken of each stretch stands in a cache line of its own.
typedef struct {
    _Alignas(64) atomic_int taken;
} stretch;

static int share_out(size_t bytes, int steps) {
    const int threads = bytes > CPU_SMALL ? omp_get_max_threads() : 1;
    return steps < threads ? at_least(steps, 1) : threads;
}

static stretch *stretches(int threads, int steps) {
    stretch *of = scratch_take((size_t)threads * sizeof *of);
    for (int t = 0; t < threads; t++) atomic_init(&of[t].taken, steps * t / threads);
    return of;
}

// The next step of the stretch of the thread that is `help` after thread `thread`, or -1.
static int take_next(stretch *of, int threads, int thread, int help, int steps) {
    const int at = (thread + help) % threads, end = steps * (at + 1) / threads;
    const int k = atomic_fetch_add_explicit(&of[at].taken, 1, memory_order_relaxed);
    return k < end ? k : -1;
}

typedef struct {
    const thin_part *part;
    const source *rows;
    int n_rows, x_rows;  // of x; that share a pass
    int threads, steps;
    stretch *of;
} thin_work;

static void thin_share(void *of, int thread) {
    const thin_work *w = of;
    for (int k, help = 0; help < w->threads; help++)
        while ((k = take_next(w->of, w->threads, thread, help, w->steps)) >= 0) {
            const thin_part *p = w->part;
            while (k >= p->end) p++;
            const int from = (k - p->first) * p->step, to = from + p->step < p->list.n ? from + p->step : p->list.n;
            for (int r = 0; r < w->n_rows; r += w->x_rows)
                thin_rows(p, w->rows + r, w->n_rows - r < w->x_rows ? w->n_rows - r : w->x_rows, from, to, !r);
        }
}

// Rows of x in 8-bit numbers, in scratch memory of the caller's mark.
static void make_int8(source *rows, int n, const float *x, int cols) {
    int8_row *q = scratch_take((size_t)n * sizeof *q);
    for (int r = 0; r < n; r++) {
        q[r] = int8_row_make(scratch_take(int8_row_bytes(cols)), x + (size_t)rows[r].row * (size_t)cols, cols);
        rows[r].q = &q[r];
    }
}

void cpu_thin_products(const cpu_product *p, const cpu_units *of, int products, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const int cols = p->w->cols,
              x_rows = at_least(X_BYTES / at_least(cols * (int)sizeof(float), 1) / VEC_ROWS, 1) * VEC_ROWS;
    source *rows = scratch_take((size_t)count_rows(s, n) * sizeof *rows);
    const int n_rows = list_rows(rows, s, n);
    thin_part part_of[CPU_PRODUCTS];
    int steps = 0;
    size_t bytes = 0;
    bool int8 = false;
    ASSERT(products <= CPU_PRODUCTS);
    for (int i = 0; i < products; i++) {
        thin_part *to = &part_of[i];
        *to =
            (thin_part){.p = &p[i], .list = cpu_list_rows(p[i].w, of[i].u, of[i].D), .int8 = int8_set(), .vec = vec()};
        ASSERT(p[i].w->cols == cols && (p[i].x == p->x || !p[i].int8));
        int8 |= p[i].int8;
        // several blocks of x pass over rows that stay in the cache
        to->step = n_rows > x_rows ? at_least((int)(W_BYTES / (to->list.bytes + 1)), 1) : GROUP;
        to->first = steps;
        to->end = steps += (to->list.n + to->step - 1) / to->step;
        bytes += (size_t)to->list.n * to->list.bytes;
    }
    if (int8) make_int8(rows, n_rows, p->x, cols);
    const int threads = share_out(bytes, steps);
    thin_work w = {part_of, rows, n_rows, x_rows, threads, steps, stretches(threads, steps)};
    if (n_rows) cpu_team(threads, thin_share, &w);
    scratch_release(mark);
}

void cpu_thin_product(const cpu_product *p, const live_units *u, int D, const span *s, int n) {
    cpu_thin_products(p, &(cpu_units){u, D}, 1, s, n);
}

// ---------------------------------------------------------------- y += x Wt + b
// Units are cut into blocks by their number, which does not depend on who is live. part [rows of x, E] of one block;
// false: it adds nothing.
static bool sum_block(float *part, const float *x, const weight *w, const cpu_row_list *list, const source *rows, int n,
                      int from, int to) {
    const int E = w->cols;
    const vec_kernels *kernel = vec();
    group g;
    float c[MOST_ROWS][GROUP], *y[MOST_ROWS];
    const float *share[MOST_ROWS];
    if (from == to) return false;
    memset(part, 0, sizeof *part * (size_t)n * (size_t)E);
    for (int i = from; i < to; i += GROUP) {
        const int m = to - i < GROUP ? to - i : GROUP;
        take_rows(&g, list, i, m);
        for (int j = 0, k; j < m; j += k) {
            bool mixed;
            k = stretch_of(list, i + j, m - j, &mixed);
            int R = 0;
            for (int r = 0; r < n; r++) {
                if (!wants_some(list, i + j, mixed ? k : 1, rows[r].seq)) continue;
                const float *xs = x + (size_t)rows[r].row * (size_t)w->rows;
                for (int l = 0; l < k; l++)  // what a row of x does not want adds 0
                    c[R][l] = !mixed || cpu_wants(list->u, (i + j + l) / list->D, rows[r].seq) ? xs[g.row[j + l]] : 0;
                share[R] = c[R];
                y[R++] = part + (size_t)r * (size_t)E;
            }
            kernel->sum[w->type](y, share, R, &(vec_rows){g.data + j, k, g.rows.fetch}, E);
        }
    }
    return true;
}

// Partial sums are added in pairs, pairs of pairs and so on, by block number, whoever computed them: two threads with
// half of the blocks each meet once.
typedef struct {
    _Alignas(64) atomic_int met;  // of the right one of a pair: 1 when one of both is there
    bool used;                    // in a line of its own: the block's thread alone writes it, as a rule
} leaf;
typedef struct {
    float *part;    // [block][rows of x, E]
    size_t floats;  // of a block
    int blocks;
    leaf of[BLOCKS];
} tree;

HOT static void add_floats(float *to, const float *from, size_t n) {
    for (size_t e = 0; e < n; e++) to[e] += from[e];
}

// Block `at` is complete; true for whoever completes the sum, in block 0.
static bool climb(tree *t, int at) {
    for (int step = 1; step < t->blocks; step *= 2) {
        const int left = at & ~(2 * step - 1), right = left + step;
        if (right >= t->blocks) continue;
        if (atomic_fetch_add_explicit(&t->of[right].met, 1, memory_order_acq_rel) == 0) return false;
        float *to = t->part + (size_t)left * t->floats;
        const float *from = t->part + (size_t)right * t->floats;
        if (!t->of[right].used) continue;
        if (t->of[left].used)
            add_floats(to, from, t->floats);
        else
            memcpy(to, from, t->floats * sizeof *to);
        t->of[left].used = true;
    }
    return true;
}

typedef struct {
    float *y;
    const float *x, *b;
    const weight *w;
    const cpu_row_list *list;
    const source *rows;
    int n, threads;
    const int *first;  // of each block
    stretch *of;
    tree *t;
} transposed_work;

static void put_sum(const transposed_work *w) {
    const int E = w->w->cols;
    for (int r = 0; r < w->n; r++) {
        float *to = w->y + (size_t)w->rows[r].row * (size_t)E;
        const float *sum = w->t->part + (size_t)r * (size_t)E;
        for (int e = 0; e < E; e++) to[e] += (w->b ? w->b[e] : 0) + (w->t->of[0].used ? sum[e] : 0);
    }
}

static void transposed_share(void *of, int thread) {
    const transposed_work *w = of;
    tree *t = w->t;
    for (int k, help = 0; help < w->threads; help++)
        while ((k = take_next(w->of, w->threads, thread, help, t->blocks)) >= 0) {
            t->of[k].used = sum_block(t->part + (size_t)k * t->floats, w->x, w->w, w->list, w->rows, w->n, w->first[k],
                                      w->first[k + 1]);
            if (climb(t, k)) put_sum(w);
        }
}

static void transposed_product(float *y, const float *x, const weight *w, const float *b, int D, const live_units *u,
                               const source *rows, int n) {
    const cpu_row_list list = cpu_list_rows(w, u, D);
    const int E = w->cols, size = (w->rows / D + BLOCKS - 1) / BLOCKS;
    const scratch_point mark = scratch_mark();
    tree t = {.part = scratch_floats((size_t)BLOCKS * (size_t)n * (size_t)E),
              .floats = (size_t)n * (size_t)E,
              .blocks = size ? (w->rows / D + size - 1) / size : 0};
    int first[BLOCKS + 1] = {0};
    for (int k = 0, block = 0; block <= t.blocks; block++) {
        while (u && k < u->n && u->unit[k] < block * size) k++;
        first[block] = u ? k * D : block * size * D;
        if (first[block] > list.n) first[block] = list.n;
    }
    const int threads = share_out((size_t)list.n * list.bytes, t.blocks);
    transposed_work work = {y, x, b, w, &list, rows, n, threads, first, stretches(threads, t.blocks), &t};
    vec();
    cpu_team(threads, transposed_share, &work);
    if (t.blocks == 0)
        for (int r = 0; r < n && b; r++)
            for (int e = 0; e < E; e++) y[(size_t)rows[r].row * (size_t)E + (size_t)e] += b[e];
    scratch_release(mark);
}

void cpu_thin_transposed(float *y, const float *x, const weight *w, const float *b, int D, const live_units *u,
                         const span *s, int n) {
    const scratch_point mark = scratch_mark();
    source *rows = scratch_take((size_t)count_rows(s, n) * sizeof *rows);
    const int n_rows = list_rows(rows, s, n);
    for (int r = 0; r < n_rows; r += MOST_ROWS)
        transposed_product(y, x, w, b, D, u, rows + r, n_rows - r < MOST_ROWS ? n_rows - r : MOST_ROWS);
    scratch_release(mark);
}

// ---------------------------------------------------------------- attention
// K and V rows hold the heads side by side: positions in the outer loop read them in the order of memory.
HOT static void softmax(float *p, int n, float c) { softmax_f(p, n, c); }

// Keys or values of at most GROUP tokens, and those of the next VEC_AHEAD.
typedef struct {
    const float *row[GROUP + VEC_AHEAD];
    int n;
} tokens;

typedef struct {
    const float *past, *own;
} heads_of;  // K or V of the tokens before, of the new ones, in rows of W floats
static const float *token_row(const heads_of *x, const attn_seq *s, int W, int t) {
    return t < s->past ? x->past + (size_t)t * (size_t)W : x->own + (size_t)(t - s->past) * (size_t)W;
}

// Tokens from t on of n; after the last come those of `then`.
static void take_tokens(tokens *to, const heads_of *x, const heads_of *then, const attn_seq *s, int W, int t, int n) {
    to->n = n - t < GROUP ? n - t : GROUP;
    for (int j = 0; j < to->n + VEC_AHEAD; j++)
        to->row[j] = t + j < n ? token_row(x, s, W, t + j) : token_row(then, s, W, (t + j - n) % n);
}

static bool lacks(const attn_seq *s, int t, int kv_head, int K) {
    return t < s->past && s->past_has && !s->past_has[(size_t)t * (size_t)K + (size_t)kv_head];
}

// Scores (values: false), or sums of values, of some tokens from t on for each head: p [head, most].
static void few_tokens(float *out, float *p, const float *q, const tokens *now, const attn_seq *s, int t, int most,
                       const attn_heads *of, const int *head, int heads, bool values) {
    const vec_kernels *kernel = vec();
    const int D = of->D;
    for (int h = 0; h < heads; h++) {
        const void *row[GROUP + VEC_AHEAD];
        float share[GROUP], *ph = p + (size_t)h * (size_t)most + t;
        const float *qh = q + head[h] * D;
        const int kv_head = ATTN_KV_HEAD(*of, head[h]);
        vec_rows rows = {row, now->n, true};
        for (int j = 0; j < now->n + VEC_AHEAD; j++) row[j] = now->row[j] + kv_head * D;
        if (!values) {
            kernel->dot[DT_F32](ph, &rows, &qh, 1, D);
            continue;
        }
        if (s->past_has) {  // what a head lacks is not looked at
            rows = (vec_rows){row, 0, false};
            for (int j = 0; j < now->n; j++) {
                if (lacks(s, t + j, kv_head, of->K)) continue;
                row[rows.n] = row[j];
                share[rows.n++] = ph[j];
            }
        }
        kernel->sum[DT_F32](&(float *){out + head[h] * D}, &(const float *){s->past_has ? share : ph}, 1, &rows, D);
    }
}

void cpu_thin_heads(float *out, const float *q, const float *k, const float *v, const attn_heads *of, const attn_seq *s,
                    const int *head, int heads) {
    const int most = s->past + s->s.n, D = of->D, A = of->H * D, W = of->K * D;
    const size_t first = (size_t)s->s.row * (size_t)W;
    const heads_of keys = {s->past_k, k + first}, values = {s->past_v, v + first};
    const float c = 1.0f / sqrtf((float)D);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)heads * (size_t)most);
    tokens now;
    for (int i = s->from; i < s->s.n && heads; i++) {
        const size_t row = (size_t)(s->s.row + i) * (size_t)A;
        const int n = s->past + i + 1;
        for (int t = 0; t < n; t += GROUP) {
            take_tokens(&now, &keys, &values, s, W, t, n);
            few_tokens(out + row, p, q + row, &now, s, t, most, of, head, heads, false);
        }
        for (int h = 0; h < heads; h++) {
            float *ph = p + (size_t)h * (size_t)most;
            for (int t = 0; t < s->past && s->past_has; t++)
                if (lacks(s, t, ATTN_KV_HEAD(*of, head[h]), of->K)) ph[t] = -INFINITY;
            softmax(ph, n, c);
            memset(out + row + head[h] * D, 0, sizeof *out * (size_t)D);
        }
        for (int t = 0; t < n; t += GROUP) {
            take_tokens(&now, &values, &values, s, W, t, n);
            few_tokens(out + row, p, q + row, &now, s, t, most, of, head, heads, true);
        }
    }
    scratch_release(mark);
}
