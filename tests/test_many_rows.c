// test_many_rows - products of many rows with 16-bit weights, as scoring has them, through the CUDA table: against
// double precision at every magnitude, rows of very different ones side by side and numbers of very different ones in a
// row; no number that is not finite leaves its row; maps of one input at once, whose rows are split once, have the bits
// of products one by one; weights that are kept transposed.
#include "convert.h"
#include "cuda_compare.h"
#include "shim.h"

static const ops *gpu;
enum { ROWS = 53, E = 136, F = 203 };
static const span spans[] = {{0, 21}, {21, 3}, {24, 29}};
enum { SPANS = sizeof spans / sizeof *spans };

typedef struct {
    weight w, turned;  // (F, E): as it is, and as its transpose
    double *value;
} matrix;

static void *put(const void *x, size_t bytes) {
    void *to = gpu->alloc(bytes);
    gpu->put(to, x, bytes);
    return to;
}

// Row and column 0 are 0, so that what vectors have there is lost.
static matrix make_matrix(uint64_t seed, dtype type, int rows, int cols) {
    const size_t n = (size_t)rows * (size_t)cols;
    float *x = random_floats(seed, n);
    uint16_t *stored = xmalloc(n * sizeof *stored), *turned = xmalloc(n * sizeof *turned);
    for (int j = 0; j < rows; j++) x[j * cols] = 0;
    for (int e = 0; e < cols; e++) x[e] = 0;
    dtype_narrow(stored, type, x, n);
    dtype_widen(x, stored, type, n);
    for (int j = 0; j < rows; j++)
        for (int e = 0; e < cols; e++) turned[e * rows + j] = stored[j * cols + e];
    matrix m = {.w = {.data = put(stored, n * 2), .type = type, .rows = rows, .cols = cols}};
    m.turned = m.w;
    m.turned.data = put(turned, n * 2), m.turned.turned = true;
    m.value = xmalloc(n * sizeof *m.value);
    for (size_t i = 0; i < n; i++) m.value[i] = (double)x[i];
    free(x), free(stored), free(turned);
    return m;
}
static void free_matrix(matrix *m) {
    gpu->release((void *)(uintptr_t)m->w.data), gpu->release((void *)(uintptr_t)m->turned.data);
    free(m->value);
}

static float *get(float *p, size_t n) {
    float *to = xmalloc(n * sizeof *to);
    gpu->get(to, p, n * sizeof *to);
    gpu->release(p);
    return to;
}

// Rows of every size, up to fp32's least and almost its largest numbers; in the even ones the number at 0 is 2^24 times
// the others, which alone count.
static float *rows_of_all_sizes(size_t width) {
    float *x = random_floats(2, ROWS * width);
    for (int t = 0; t < ROWS; t++) {
        for (size_t i = 0; i < width; i++) x[(size_t)t * width + i] *= ldexpf(1, t * 240 / ROWS - 139);
        if (t % 2 == 0 && t < ROWS - 6) x[(size_t)t * width] = ldexpf(1, 24 + t * 240 / ROWS - 139);
    }
    return x;
}

static void check_product(const matrix *m, bool turned, bool back, bool add, const float *x, const weight *bias,
                          const double *b) {
    const int in = back ? F : E, out = back ? E : F;
    const weight *w = turned ? &m->turned : &m->w;
    float *y = random_floats(4, (size_t)ROWS * (size_t)out), *on_x = put(x, (size_t)ROWS * (size_t)in * sizeof *x),
          *on_y = put(y, (size_t)ROWS * (size_t)out * sizeof *y);
    if (back)
        gpu->linear_back(on_y, on_x, w, add, spans, SPANS);
    else
        gpu->linear(on_y, on_x, w, bias, add, spans, SPANS);
    float *got = get(on_y, (size_t)ROWS * (size_t)out);
    for (int t = 0; t < ROWS; t++)
        for (int j = 0; j < out; j++) {
            double sum = 0, size = 0x1p-149;
            if (add) sum = (double)y[t * out + j];
            if (!back && bias) sum += b[j];
            size += fabs(sum);
            for (int i = 0; i < in; i++) {
                const double term = (double)x[t * in + i] * m->value[back ? i * E + j : j * E + i];
                sum += term, size += fabs(term);
            }
            if (!(fabs((double)got[t * out + j] - sum) <= 1e-6 * size + 0x1p-149))
                fail_msg("%s, turned %d, back %d, add %d, row %d, column %d: %.9g, want %.9g", dtype_name(m->w.type),
                         turned, back, add, t, j, (double)got[t * out + j], sum);
        }
    gpu->release(on_x);
    free(y), free(got);
}

static void products_of_every_magnitude(void **state) {
    (void)state;
    float *bias = random_floats(3, F);
    double b[F];
    for (int j = 0; j < F; j++) b[j] = (double)bias[j];
    const weight on_bias = {.data = put(bias, F * sizeof *bias), .type = DT_F32, .rows = F, .cols = 1};
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        matrix m = make_matrix(1, type, F, E);
        for (int back = 0; back < 2; back++) {
            float *x = rows_of_all_sizes(back ? F : E);
            for (int k = 0; k < 8; k++) check_product(&m, k & 1, back, k & 2, x, k & 4 ? &on_bias : NULL, b);
            free(x);
        }
        free_matrix(&m);
    }
    gpu->release((void *)(uintptr_t)on_bias.data);
    free(bias);
}

static void what_is_not_finite_stays_in_its_row(void **state) {
    (void)state;
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        matrix m = make_matrix(1, type, F, E);
        float *x = random_floats(2, (size_t)ROWS * E), *y = xcalloc((size_t)ROWS * F, sizeof *y);
        x[30 * E + 7] = NAN, x[40 * E + 9] = INFINITY;
        float *on_x = put(x, (size_t)ROWS * E * sizeof *x), *on_y = put(y, (size_t)ROWS * F * sizeof *y);
        gpu->linear(on_y, on_x, &m.w, NULL, false, spans, SPANS);
        float *got = get(on_y, (size_t)ROWS * F);
        for (int i = 0; i < ROWS * F; i++) assert_true(!isfinite(got[i]) == (i / F == 30 || i / F == 40));
        gpu->release(on_x);
        free(x), free(y), free(got);
        free_matrix(&m);
    }
}

// q, k and v, and a gated FFN, of spans of many rows and of few, which go another way.
static void maps_split_their_input_once(void **state) {
    (void)state;
    const norm_shape shape = {E, NORM_LAYER, 1e-5f};
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        matrix m[3];
        float *numbers = random_floats(2, (size_t)ROWS * E), *x = put(numbers, (size_t)ROWS * E * sizeof *x), *y[2][4];
        for (int i = 0; i < 3; i++) m[i] = make_matrix(5 + (uint64_t)i, type, i ? 64 : F, E);
        for (int i = 0; i < 8; i++) y[i / 4][i % 4] = gpu->alloc((size_t)ROWS * F * sizeof *x);
        const sublayer_input in = {.h = x, .shape = shape};
        sublayer_map maps[3] = {0};
        for (int i = 0; i < 3; i++) maps[i] = (sublayer_map){.y = y[0][i], .w = &m[i].w, .D = 1};
        const long before = shim_count("kernel");
        gpu->maps(&in, maps, 3, NULL, NULL, spans, SPANS);
        const long once = shim_count("kernel") - before;
        for (int i = 0; i < 3; i++) gpu->linear(y[1][i], x, &m[i].w, NULL, false, spans, SPANS);
        // in two spans of many rows two splits less each; in the one of few rows two launches less
        if (before >= 0) assert_int_equal(shim_count("kernel") - before - once, once + 6);
        gpu->hidden(y[0][3], &in, maps + 1, 2, ACT_SILU, spans, SPANS);
        gpu->gated(y[1][3], y[1][1], y[1][2], ACT_SILU, 64, spans, SPANS);
        for (int i = 0; i < 4; i++) {
            const size_t n = (size_t)ROWS * (i ? 64 : F);
            float *a = get(y[0][i], n), *b = get(y[1][i], n);
            assert_same_bits("maps at once", a, b, n * sizeof *a);
            free(a), free(b);
        }
        for (int i = 0; i < 3; i++) free_matrix(&m[i]);
        gpu->release(x);
        free(numbers);
    }
}

int main(void) {
    gpu = shim_open();
    if (!gpu) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_of_every_magnitude),
                                       cmocka_unit_test(what_is_not_finite_stays_in_its_row),
                                       cmocka_unit_test(maps_split_their_input_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
