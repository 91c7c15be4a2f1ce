// test_rounded - 16-bit activations (ops.h: narrow weights) on the CPU and through the CUDA table: products against
// double precision on operands that were rounded here, by definition; powers of two pass through, from 1e-30 to 1e30; a
// span alone has the bits that it has in a batch; what is not finite is named.
#include "opt_fixture.h"
#include "convert.h"
#include "model_random.h"
#include "orders.h"
#include "shim.h"

static const ops *side[2];
static int sides = 1;
static const char *self;

enum { E = 48, F = 70, ROWS = 61, SPANS = 4 };
static const span spans[SPANS] = {{0, 1}, {2, 7}, {9, 0}, {12, 49}};

// To `bits` significant bits, ties to even, at any size.
static double to_bits(double x, int bits) {
    int e;
    const double m = frexp(x, &e);
    return ldexp(nearbyint(ldexp(m, bits)), e - bits);
}
static int bits_of(dtype type) { return type == DT_F16 ? 11 : 8; }

typedef struct {
    weight on[2], t[2];
    double w[F * E];
} matrix;  // (F, E), and transposed; side by side
static void make_matrix(matrix *m, dtype type) {
    static float x[F * E], turned[F * E], wide[F * E];
    uint16_t h[F * E];
    rng r = rng_make(5);
    for (int i = 0; i < F * E; i++) x[i] = (float)(0.1 * rng_normal(&r));
    dtype_narrow(h, type, x, F * E);
    dtype_widen(wide, h, type, F * E);
    for (int i = 0; i < F * E; i++) {
        m->w[i] = (double)wide[i];
        turned[i % E * F + i / E] = wide[i];
    }
    for (int k = 0; k < sides; k++) {
        uint16_t *p = side[k]->alloc(sizeof h), *t = side[k]->alloc(sizeof h);
        side[k]->put(p, h, sizeof h);
        m->on[k] = (weight){p, type, F, E, NULL, "layers.1.fc1.weight", false};
        dtype_narrow(h, type, turned, F * E);
        side[k]->put(t, h, sizeof h);
        m->t[k] = (weight){t, type, E, F, NULL, "layers.1.fc2.weight", false};
        dtype_narrow(h, type, x, F * E);
    }
}
static void free_matrix(matrix *m) {
    for (int k = 0; k < sides; k++)
        side[k]->release((void *)(uintptr_t)m->on[k].data), side[k]->release((void *)(uintptr_t)m->t[k].data);
}

static float *on_device(const ops *o, const float *x, size_t n) {
    float *p = o->alloc(n * sizeof *p);
    o->put(p, x, n * sizeof *p);
    return p;
}
static float *from_device(const ops *o, float *p, size_t n) {
    float *x = xmalloc(n * sizeof *x);
    o->get(x, p, n * sizeof *x);
    o->release(p);
    return x;
}
static float *random_rows(uint64_t seed, int width) {
    rng r = rng_make(seed);
    float *x = xmalloc(sizeof *x * ROWS * (size_t)width);
    // rows of other sizes side by side
    for (int i = 0; i < ROWS * width; i++) x[i] = (float)rng_normal(&r) * ldexpf(1, i / width % 5 - 12);
    return x;
}

// Forward over in = E (or back over F): y [ROWS, out] by the operation `what` on one side.
enum { LINEAR, LINEAR_ADD, BACK, LIVE, LIVE_T, OPERATIONS };
static const char *const names[] = {"linear", "linear, added", "linear_back", "live_linear", "live_linear_t"};
static int in_of(int what) { return what == BACK || what == LIVE_T ? F : E; }
static int out_of(int what) { return what == BACK || what == LIVE_T ? E : F; }

static float *product_of(int what, int k, const matrix *m, const float *x, const span *s, int n) {
    const ops *o = side[k];
    const size_t in = (size_t)in_of(what) * ROWS, out = (size_t)out_of(what) * ROWS;
    float *on_x = on_device(o, x, in), *y = o->alloc(out * sizeof *y);
    int32_t unit[F];
    for (int u = 0; u < F; u++) unit[u] = u;
    const int units = what == LIVE || what == LIVE_T ? F : 0;
    int32_t *on_unit = (int32_t *)(void *)on_device(o, (const float *)(const void *)unit, F);
    const live_units u = {.unit = on_unit, .n = units, .seqs = n};
    if (what == LINEAR || what == LINEAR_ADD) o->linear(y, on_x, &m->on[k], NULL, what == LINEAR_ADD, s, n);
    if (what == BACK) o->linear_back(y, on_x, &m->on[k], false, s, n);
    if (what == LIVE) o->live_linear(y, on_x, &m->on[k], NULL, false, 1, &u, s, n);
    if (what == LIVE_T) o->live_linear_t(y, on_x, &m->on[k], NULL, 1, &u, s, n);
    o->release(on_x), o->release(on_unit);
    return from_device(o, y, out);
}

static double want_of(int what, const matrix *m, const float *row, int j, int bits) {
    double sum = 0;
    for (int i = 0; i < in_of(what); i++)
        sum +=
            (bits ? to_bits((double)row[i], bits) : (double)row[i]) * m->w[out_of(what) == F ? j * E + i : i * E + j];
    return sum;
}

// Every operation in both types on both sides.
static void each_product(void (*check)(int what, int k, const matrix *m)) {
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        matrix m;
        make_matrix(&m, type);
        for (int what = 0; what < OPERATIONS; what++)
            for (int k = 0; k < sides; k++) check(what, k, &m);
        free_matrix(&m);
    }
}

static void of_rounded_operands(int what, int k, const matrix *m) {
    const int in = in_of(what), out = out_of(what), bits = bits_of(m->on[k].type);
    float *x = random_rows(7 + (uint64_t)what, in), *y = product_of(what, k, m, x, spans, SPANS);
    double far = 0;
    for (int i = 0; i < SPANS; i++)
        for (int t = spans[i].row; t < spans[i].row + spans[i].n; t++) {
            double want[F], exact, size = 0;
            char text[100];
            for (int j = 0; j < out; j++) want[j] = want_of(what, m, x + t * in, j, bits);
            for (int j = 0; j < out; j++) size = fmax(size, fabs(want[j]));
            for (int j = 0; j < out; j++)
                exact = want_of(what, m, x + t * in, j, 0), far = fmax(far, fabs(exact - want[j]) / size);
            snprintf(text, sizeof text, "%s, %s, %s, row %d", side[k]->device, names[what], dtype_name(m->on[k].type),
                     t);
            assert_agree(text, y + t * out, want, (size_t)out, 2e-6);
        }
    if (!(far > ldexp(1, -bits - 3))) fail_msg("%s: rounding does not show (%g)", names[what], far);
    free(x), free(y);
}

static void products_are_of_rounded_operands(void **state) {
    (void)state;
    each_product(of_rounded_operands);
}

// Over one span: sums of |w g|, g g, w g and w h against double precision on rounded operands, where h is made of
// tangents.
static void sums_of_gradients(void **state) {
    (void)state;
    const span s = {4, 41};
    const int from = 11, rows = 50;
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        matrix m;
        make_matrix(&m, type);
        float *x[4];
        for (int a = 0; a < 4; a++) {
            x[a] = random_rows(30 + (uint64_t)a, a % 2 ? E : F);  // dz, x and their tangents
            for (int i = 0; i < ROWS * (a % 2 ? E : F); i++) x[a][i] *= a % 2 ? 1 : 1e-12f;
        }
        for (int k = 0; k < sides; k++) {
            double sums[F * WSUMS], *on_sums = side[k]->alloc(sizeof sums);
            float *p[4];
            for (int a = 0; a < 4; a++) p[a] = on_device(side[k], x[a], ROWS * (size_t)(a % 2 ? E : F));
            side[k]->weight_sums(on_sums, p[0], p[1], p[2], p[3], &m.on[k], from, rows, false, &s);
            side[k]->get(sums, on_sums, sizeof sums);
            side[k]->release(on_sums);
            for (int a = 0; a < 4; a++) side[k]->release(p[a]);
            for (int j = 0; j < rows; j++) {
                double want[WSUMS] = {0}, size[WSUMS] = {0};
                for (int e = 0; e < E; e++) {
                    double g = 0, h = 0;
                    for (int t = s.row; t < s.row + s.n; t++) {
                        double v[4];
                        for (int a = 0; a < 4; a++)
                            v[a] = to_bits((double)(a % 2 ? x[a][t * E + e] : x[a][t * F + from + j]), bits_of(type));
                        g += v[0] * v[1];
                        h += v[2] * v[1] + v[0] * v[3];
                    }
                    const double w = m.w[(from + j) * E + e], term[WSUMS] = {fabs(w * g), g * g, w * g, w * h};
                    for (int q = 0; q < WSUMS; q++) want[q] += term[q], size[q] += fabs(term[q]);
                }
                for (int q = 0; q < WSUMS; q++) {
                    const double got = sums[j * WSUMS + q];
                    if (!(fabs(got - want[q]) <= 1e-5 * size[q]))
                        fail_msg("%s, %s: sum %d of row %d: %.9g, want %.9g", side[k]->device, dtype_name(type), q, j,
                                 got, want[q]);
                }
            }
        }
        for (int a = 0; a < 4; a++) free(x[a]);
        free_matrix(&m);
    }
}

// Gradients of 1e-30 are no less exact than those of 1, and those of 1e30 do not overflow: a power of two changes
// exponents only.
static void of_powers_of_two(int what, int k, const matrix *m) {
    static const int power[] = {-100, -67, -23, 24, 100};
    const int in = in_of(what), out = out_of(what);
    float *x = random_rows(3, in), *scaled = random_rows(3, in), *y = product_of(what, k, m, x, spans, SPANS);
    for (int p = 0; p < 5; p++) {
        for (int i = 0; i < ROWS * in; i++) scaled[i] = ldexpf(x[i], power[p]);
        float *z = product_of(what, k, m, scaled, spans, SPANS);
        for (int i = 0; i < ROWS * out; i++)
            if (z[i] != ldexpf(y[i], power[p]))
                fail_msg("%s, %s, %s, 2^%d: number %d: %.9g, want %.9g", side[k]->device, names[what],
                         dtype_name(m->on[k].type), power[p], i, (double)z[i], (double)ldexpf(y[i], power[p]));
        free(z);
    }
    free(x), free(scaled), free(y);
}

static void powers_of_two_pass_through(void **state) {
    (void)state;
    each_product(of_powers_of_two);
}

// Neighbours a million times larger change nothing.
static void of_a_span_alone(int what, int k, const matrix *m) {
    const int in = in_of(what), out = out_of(what);
    float *x = random_rows(8, in);
    for (int i = 12 * in; i < ROWS * in; i++) x[i] *= 1e6f;
    float *all = product_of(what, k, m, x, spans, SPANS), *one = product_of(what, k, m, x, &spans[1], 1);
    assert_same_bits(names[what], all + spans[1].row * out, one + spans[1].row * out,
                     sizeof *one * (size_t)(spans[1].n * out));
    free(x), free(all), free(one);
}

static void a_span_is_alone(void **state) {
    (void)state;
    each_product(of_a_span_alone);
}

// ---------------------------------------------------------------- faults
// This program, called with a side, a type, an operation and a number, which stands among the rows.
static void fault(char **argv) {
    matrix m;
    side[0] = strcmp(argv[1], "cpu") == 0 ? ops_cpu() : shim_open();
    make_matrix(&m, strcmp(argv[2], "fp16") == 0 ? DT_F16 : DT_BF16);
    const int what = atoi(argv[3]);
    float *x = random_rows(8, in_of(what));
    x[20 * in_of(what) + 7] = strtof(argv[4], NULL);
    free(product_of(what, 0, &m, x, spans, SPANS));
    free(x);
    free_matrix(&m);
}

static void faults_are_named(void **state) {
    (void)state;
    static const char *const types[] = {"fp16", "bf16"}, *const numbers[] = {"inf", "nan", "-inf", "3e38"};
    for (int k = 0; k < sides; k++)
        for (int type = 0; type < 2; type++)
            for (int number = 0; number < 4; number++)
                for (int what = LINEAR; what <= BACK; what += BACK - LINEAR) {
                    // sanitizers have lines of their own
                    char *command = xasprintf("'%s' %s %s %d %s 2>&1", self, k ? "cuda" : "cpu", types[type], what,
                                              numbers[number]),
                         text[4000] = "";
                    FILE *f = popen(command, "r");
                    assert_non_null(f);
                    fread(text, 1, sizeof text - 1, f);
                    const int status = pclose(f);
                    const bool said = strstr(text, "not finite");
                    const bool finite = number == 3;  // and so it passes in both types
                    const char *where =
                        what == BACK ? "linear_back with layers.1.fc1.weight" : ": linear with layers.1.fc1.weight";
                    if (finite ? status != 0 || said : status >> 8 != 1 || !strstr(text, where) || !said)
                        fail_msg("%s: status %d, %s", command, status, text);
                    free(command);
                }
}

// Loading: matrices become the type, vectors stay; what fp16 does not hold is refused by name.
static void models_are_narrowed(void **state) {
    (void)state;
    model_config c;
    int n;
    assert_int_equal(model_shape(&c, "2x2x24x40x50x30"), 0);
    tensor *t = random_weights(&c, 3, &n);
    float *w1 = weights_find(t, n, "layers.1.fc1.weight"), *bias = weights_find(t, n, "layers.1.fc1.bias");
    for (dtype type = DT_F16; type <= DT_BF16; type++) {
        const ops *o = ops_open_as("cpu", type);
        model m;
        assert_int_equal(model_from_tensors_on(&m, &c, t, n, o), 0);
        const weight *w = &m.layer[1].w1;
        assert_true(w->type == type && m.layer[1].b1.type == DT_F32 && m.head.type == type && m.head.narrow);
        assert_string_equal(w->narrow, "layers.1.fc1.weight");
        float wide[40 * 24];
        dtype_widen(wide, w->data, type, 40 * 24);
        for (int i = 0; i < 40 * 24; i++) assert_true((double)wide[i] == to_bits((double)w1[i], bits_of(type)));
        assert_true(((const float *)m.layer[1].b1.data)[3] == bias[3]);
        model_free(&m);
    }
    w1[5] = 65520;
    model m;
    assert_int_equal(model_from_tensors_on(&m, &c, t, n, ops_open_as("cpu", DT_F16)), -1);
    assert_non_null(strstr(err_get(), "tensor layers.1.fc1.weight holds numbers beyond 65504"));
    assert_int_equal(model_from_tensors_on(&m, &c, t, n, ops_open_as("cpu", DT_BF16)), 0);
    model_free(&m);
    weights_free(t, n);
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc == 5) return fault(argv), 0;
    side[0] = ops_cpu();
    side[1] = shim_open();
    if (side[1]) sides = 2;
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_are_of_rounded_operands),
                                       cmocka_unit_test(sums_of_gradients),
                                       cmocka_unit_test(powers_of_two_pass_through),
                                       cmocka_unit_test(a_span_is_alone),
                                       cmocka_unit_test(faults_are_named),
                                       cmocka_unit_test(models_are_narrowed)};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (argc > 1 || sides < 2 || !strstr(side[1]->about, "stand-in")) return bad;
    bad |= again(self, "*of*", "CUH_ORDER=rev CU_FAKE_STREAMS=eager");
    bad |= again(self, "*of*", "CUH_ORDER=20261 CU_FAKE_STREAMS=7");
    return bad;
}
