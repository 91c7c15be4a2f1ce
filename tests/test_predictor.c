// test_predictor - quality of predictors against scipy (tests/golden/make_predictor.py), targets, the split of
// documents, normalisation, files of predictors, 16-bit weights. The nets themselves: test_nets.
#include "predictor_fixture.h"
#include "nets.h"
#include "minmax.h"
#include "quality.h"
#include "target.h"
#include <unistd.h>

// ---------------------------------------------------------------- quality against scipy
static void near(const char *what, double got, double want) {
    if (!(fabs(got - want) <= 1e-12)) fail_msg("%s is %.15g, want %.15g", what, got, want);
}

static void quality_of_examples(void **state) {
    (void)state;
    enum { N = 6, L = 4, U = 13 };
    double *p = read_of("quality", "predicted", NULL), *t = read_of("quality", "true", NULL),
           *joint = read_of("quality", "joint", NULL), *within = read_of("quality", "within", NULL);
    double *oj = read_of("quality", "overlap_joint", NULL), *ow = read_of("quality", "overlap_within", NULL), mse = 0;
    quality sum = {0}, q;
    for (int i = 0; i < N; i++) {
        quality_of(&q, p + i * L * U, t + i * L * U, L, U, NULL, 0, 1);
        near("joint", q.joint, joint[i]);
        near("within", q.within / (double)(q.layers - q.constant), within[i]);
        assert_int_equal(q.constant, i == 3 || i == 4);
        for (int s = 0; s < QUALITY_POINTS; s++) {
            near("overlap, joint", q.overlap_joint[s], oj[i * QUALITY_POINTS + s]);
            near("overlap, within", q.overlap_within[s], ow[i * QUALITY_POINTS + s]);
        }
        double square = 0;
        for (int k = i * L * U; k < (i + 1) * L * U; k++) square += (p[k] - t[k]) * (p[k] - t[k]) / (L * U);
        near("mse", q.mse, square);
        mse += square / N;
        quality_add(&sum, &q);
    }
    quality_mean(&sum);
    near("mean of mse", sum.mse, mse);
    assert_int_equal(sum.constant, 2);
    assert_int_equal(sum.layers, N * L);
    quality_of(&q, p, p, L, U, NULL, 1, 0);
    near("joint of itself", q.joint, 1);
    assert_int_equal(q.layers, L - 1);
    quality_of(&q, t, (double[L * U]){0}, L, U, NULL, 0, 1);
    quality_mean(&q);
    assert_true(isnan(q.joint) && isnan(q.within));  // a constant has no ranks
    void *all[] = {p, t, joint, within, oj, ow};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// ---------------------------------------------------------------- targets and parts
static void normalisation(void **state) {
    (void)state;
    float x[4] = {-2, 6, 0, 2}, y[4];
    assert_true(minmax(y, x, 4));
    const float want[4] = {0, 1, 0.25f, 0.5f};
    assert_memory_equal(y, want, sizeof want);
    assert_true(minmax(y, y, 4));
    assert_memory_equal(y, want, sizeof want);
    assert_false(minmax(y, (float[]){3, 3, 3}, 3));
    for (int i = 0; i < 3; i++) assert_true(y[i] == 0);
    assert_true(minmax(y, (float[]){-3e38f, 3e38f, 0}, 3));
    assert_true(y[0] == 0 && y[1] == 1 && y[2] == 0.5f);
    top_labels(y, (float[]){1, 5, 5, 0}, 4, 1);
    assert_memory_equal(y, ((float[]){0, 0, 0, 0}), 16);  // one of two equal ones cannot be told
    top_labels(y, (float[]){1, 5, 5, 0}, 4, 2);
    assert_memory_equal(y, ((float[]){0, 1, 1, 0}), 16);
    top_labels(y, x, 4, 2);
    assert_memory_equal(y, ((float[]){0, 1, 0, 1}), 16);
}

static void documents_stay_together(void **state) {
    (void)state;
    enum { N = 400 };
    char *task[N], *id[N];
    for (int i = 0; i < N; i++) {
        task[i] = i % 2 ? "a" : "b";
        id[i] = xasprintf("%d", i / 4);  // two rows of each of 200 documents
    }
    uint8_t parts[N], again[N];
    assert_int_equal(split_documents(parts, task, id, N, 0.7, 0.15, 7), 0);
    int count[3] = {0};
    for (int i = 0; i < N; i++) {
        count[parts[i]]++;
        assert_int_equal(parts[i], parts[i / 4 * 4 + i % 2]);
    }
    assert_int_equal(count[PART_TRAIN], 280);
    assert_int_equal(count[PART_VALID], 60);
    assert_int_equal(count[PART_TEST], 60);
    // the same documents in the reverse order
    char *task2[N], *id2[N];
    for (int i = 0; i < N; i++) {
        task2[i] = task[N - 1 - i];
        id2[i] = id[N - 1 - i];
    }
    split_documents(again, task2, id2, N, 0.7, 0.15, 7);
    for (int i = 0; i < N; i++) assert_int_equal(again[i], parts[N - 1 - i]);
    split_documents(again, task, id, N, 0.7, 0.15, 8);
    assert_memory_not_equal(again, parts, N);
    // a smaller test part is inside a larger one; no validation part
    split_documents(again, task, id, N, 0.9, 0.1, 7);
    memset(count, 0, sizeof count);
    for (int i = 0; i < N; i++) {
        count[again[i]]++;
        if (again[i] == PART_TEST) assert_int_equal(parts[i], PART_TEST);
    }
    assert_int_equal(count[PART_VALID], 0);
    assert_int_equal(count[PART_TEST], 40);
    // six documents: at least one in each part
    assert_int_equal(split_documents(again, task, id, 12, 0.7, 0.15, 1), 0);
    assert_int_equal(split_documents(again, task, id, 3, 0.7, 0.15, 1), -1);  // two
    for (int i = 0; i < N; i++) free(id[i]);
}

// ---------------------------------------------------------------- files
static model subject;

static predictor_info describe(predictor_design d) {
    predictor_info a = {.design = d,
                        .per_layer = d == PREDICTOR_DEJAVU || d == PREDICTOR_LOWRANK,
                        .lag = d == PREDICTOR_LOWRANK,
                        .has = {true, true},
                        .L = subject.c.L,
                        .H = subject.c.H,
                        .E = subject.c.E,
                        .F = subject.c.F,
                        .hidden = {7, 5},
                        .criterion = "snip"};
    a.state[0] = d == PREDICTOR_LOWRANK ? STATE_RESIDUAL : STATE_HEAD_OUTPUT;
    a.state[1] = d == PREDICTOR_LOWRANK ? STATE_MID : STATE_HEAD_OUTPUT;
    return a;
}

static void scores_of(predictor *p, double *heads, double *neurons) {
    const predictor_info *a = predictor_about(p);
    enum { T = 3 };
    float *x = xmalloc((size_t)T * (size_t)a->E * sizeof *x);
    for (int i = 0; i < T * a->E; i++) x[i] = sinf((float)i * 0.37f);
    const float *const in[2] = {x, x + a->E};
    if (!a->per_layer) predictor_all(p, in, T, heads, neurons);
    for (int l = 0; a->per_layer && l < a->L; l++) predictor_layer(p, l, in, heads + l * a->H, neurons + l * a->F);
    free(x);
}

static void files_give_back_what_was_written(void **state) {
    (void)state;
    char path[] = "/tmp/test_predictor.XXXXXX";
    close(mkstemp(path));
    assert_int_equal(model_load(&subject, "tests/golden/opt/odd"), 0);
    ckpt_hash(&subject.file);
    const size_t h = (size_t)subject.c.L * (size_t)subject.c.H, f = (size_t)subject.c.L * (size_t)subject.c.F;
    double *first = xmalloc((h + f) * sizeof *first), *second = xmalloc((h + f) * sizeof *second);
    for (predictor_design d = PREDICTOR_SHADOW; d <= PREDICTOR_SEQUENCE; d++) {
        const predictor_info a = describe(d);
        predictor *p = predictor_new(&a, 3);
        store *s = store_create_as(path, PREDICTOR_FORMAT);
        assert_int_equal(predictor_put_about(s, &a, subject.file.hash) || predictor_put(s, p) || store_commit(s), 0);
        predictor *q = predictor_open(path, NULL, &subject);
        if (!q) fail_msg("%s", err_get());
        const predictor_info *b = predictor_about(q);
        assert_string_equal(b->hash, predictor_about(p)->hash);
        assert_string_equal(b->criterion, "snip");
        assert_true(b->design == d && b->lag == a.lag && b->per_layer == a.per_layer && b->state[0] == a.state[0] &&
                    b->state[1] == a.state[1] && b->hidden[0] == 7 && b->hidden[1] == 5);
        scores_of(p, first, first + h);
        scores_of(q, second, second + h);
        assert_memory_equal(first, second, (h + f) * sizeof *first);
        // a layer before the lag has no net
        for (size_t i = 0; i < (size_t)subject.c.H; i++) assert_true((first[i] == 0) == (a.lag == 1));
        double macs[2], bytes[2];
        predictor_cost(q, macs, bytes);
        const double E = subject.c.E, n = a.per_layer ? subject.c.L - a.lag : 1,
                     out = (a.per_layer ? 1 : subject.c.L) * subject.c.F;
        if (d != PREDICTOR_SEQUENCE) {
            assert_true(macs[1] == n * (E * 5 + 5 * out));
            assert_true(bytes[1] == 4 * (macs[1] + (d == PREDICTOR_LOWRANK ? 0 : n * (5 + out))));
        }
        predictor_close(p);
        predictor_close(q);
        assert_null(predictor_open(path, "fisher", &subject));
        assert_non_null(strstr(err_get(), "there are: snip"));
    }
    model other = {0};
    assert_int_equal(model_load(&other, "tests/golden/opt/pre"), 0);
    ckpt_hash(&other.file);
    assert_null(predictor_open(path, NULL, &other));
    assert_non_null(strstr(err_get(), "of a model of"));
    char keep = subject.file.hash[0];
    subject.file.hash[0] = keep == '0' ? '1' : '0';
    assert_null(predictor_open(path, NULL, &subject));
    assert_non_null(strstr(err_get(), "of another model"));
    subject.file.hash[0] = keep;
    // one weight changed behind our back, then half a file
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT),
          set = H5Dopen2(file, "/predictors/snip/heads/fc1.bias", H5P_DEFAULT);
    float bias[7] = {0};
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, bias) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    assert_null(predictor_open(path, NULL, &subject));
    assert_non_null(strstr(err_get(), "damaged"));
    assert_int_equal(truncate(path, 3000), 0);
    assert_null(predictor_open(path, NULL, &subject));
    free(first);
    free(second);
    model_free(&other);
    model_free(&subject);
    unlink(path);
}

// What 16-bit weights predict is what fp32 weights rounded one by one predict, and near what was trained.
static void narrow_weights(void **state) {
    (void)state;
    assert_int_equal(model_load(&subject, "tests/golden/opt/odd"), 0);
    const size_t n = (size_t)subject.c.L * (size_t)(subject.c.H + subject.c.F),
                 h = (size_t)subject.c.L * (size_t)subject.c.H;
    double *wide = xmalloc(n * sizeof *wide), *want = xmalloc(n * sizeof *want), *got = xmalloc(n * sizeof *got);
    for (predictor_design d = PREDICTOR_SHADOW; d <= PREDICTOR_SEQUENCE; d++)
        for (dtype type = DT_F16; type <= DT_BF16; type++) {
            const predictor_info a = describe(d);
            predictor *p = predictor_new(&a, 3), *rounded = predictor_new(&a, 3);
            scores_of(p, wide, wide + h);
            for (int k = 0; k < 2; k++)
                for (int i = 0; i < p->n; i++)
                    for (size_t j = 0; j < p->net[k][i].floats; j++) {
                        float *w = &rounded->net[k][i].w[j];
                        // exponent of the last digit
                        const int e = *w == 0 ? 0 : ilogbf(*w), normal = e < -14 ? -14 : e,
                                  last = type == DT_BF16 ? e - 7 : normal - 10;
                        *w = ldexpf(rintf(ldexpf(*w, -last)), last);
                    }
            scores_of(rounded, want, want + h);
            double macs[2], bytes[2], fewer[2];
            predictor_cost(p, macs, bytes);
            assert_int_equal(predictor_narrow(p, type), 0);
            predictor_cost(p, macs, fewer);
            assert_true(2 * fewer[0] == bytes[0] && 2 * fewer[1] == bytes[1] && predictor_about(p)->weights == type);
            scores_of(p, got, got + h);
            double differs = 0;
            for (size_t i = 0; i < n; i++) {
                near("narrow weights against rounded ones", got[i], want[i]);
                differs = fmax(differs, fabs(got[i] - wide[i]));
            }
            assert_true(differs > 0 && differs < (type == DT_F16 ? 2e-3 : 2e-2));
            predictor_close(p);
            predictor_close(rounded);
        }
    const predictor_info a = describe(PREDICTOR_SHADOW);
    predictor *p = predictor_new(&a, 3);
    p->net[1]->w[0] = 70000;
    assert_int_equal(predictor_narrow(p, DT_F16), -1);
    assert_non_null(strstr(err_get(), "beyond the range of fp16"));
    assert_int_equal(predictor_narrow(p, DT_BF16), 0);
    predictor_close(p);
    free(wide), free(want), free(got);
    model_free(&subject);
}

// Q8_0 by its formula: d = max|w| / 127, q = w / d with halves away from zero, then d in fp16.
static void round_blocks(float *w, size_t n) {
    for (float *end = w + n; w < end; w += 32) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(w[i]));
        const float d = most / 127;
        for (int i = 0; i < 32; i++) w[i] = (float)(_Float16)d * roundf(w[i] * (1 / d));
    }
}

// Predictors in blocks: the scores of nets whose matrices are rounded by the formula, where rows are whole blocks;
// they rank units as fp32 does.
static void nets_in_blocks(void **state) {
    (void)state;
    enum { L = 3, H = 4, F = 96, E = 64, N = L * (H + F) };
    double wide[N], want[N], got[N], macs[2], bytes[2], fewer[2];
    for (predictor_design d = PREDICTOR_SHADOW; d <= PREDICTOR_SEQUENCE; d++) {
        predictor_info a = {.design = d,
                            .per_layer = d == PREDICTOR_DEJAVU || d == PREDICTOR_LOWRANK,
                            .has = {true, true},
                            .L = L,
                            .H = H,
                            .E = E,
                            .F = F,
                            .hidden = {32, 40},  // 40: no whole blocks
                            .state = {STATE_RESIDUAL, STATE_RESIDUAL},
                            .criterion = "snip"};
        predictor *p = predictor_new(&a, 3), *rounded = predictor_new(&a, 3);
        size_t expected[UNIT_KINDS] = {0};
        for (int k = 0; k < UNIT_KINDS; k++)
            for (int i = 0; i < p->n; i++)
                for (int j = 0; j < p->net[k][i].n; j++) {
                    const net_tensor *t = &p->net[k][i].t[j];
                    const size_t n = (size_t)t->rows * (size_t)t->cols;
                    if (t->cols % 32 == 0) round_blocks(rounded->net[k][i].w + t->at, n);
                    expected[k] += t->cols % 32 ? 4 * n : n / 32 * 34;
                }
        scores_of(p, wide, wide + L * H);
        scores_of(rounded, want, want + L * H);
        predictor_cost(p, macs, bytes);
        assert_int_equal(predictor_narrow(p, DT_Q8_0), 0);
        predictor_cost(p, macs, fewer);
        assert_true(fewer[0] == (double)expected[0] && fewer[1] == (double)expected[1] && fewer[0] < bytes[0]);
        scores_of(p, got, got + L * H);
        double differs = 0;
        for (int i = 0; i < N; i++) {
            if (!(fabs(got[i] - want[i]) <= 1e-6)) fail_msg("score %d is %g, not %g", i, got[i], want[i]);
            differs = fmax(differs, fabs(got[i] - wide[i]));
        }
        quality q;
        quality_of(&q, got + L * H, wide + L * H, L, F, NULL, 0, 1);
        assert_true(differs > 0 && q.joint > 0.99);
        predictor_close(p);
        predictor_close(rounded);
    }
}

// The scores of nets that PyPI's gguf has put in Q8_0, computed in float64 by numpy
// (tests/golden/make_predictor_blocks.py).
static void blocks_as_the_package_has_them(void **state) {
    (void)state;
    enum { L = 3, H = 4, F = 96, E = 64, EXAMPLES = 5 };
    static const char *const kinds[] = {"heads", "neurons"}, *const parameters[] = {"w1", "b1", "w2", "b2"};
    golden g = {.name = "predictor_blocks.h5",
                .file = H5Fopen("tests/golden/predictor_blocks.h5", H5F_ACC_RDONLY, H5P_DEFAULT)};
    assert_true(g.file >= 0);
    const predictor_info a = {.design = PREDICTOR_SHADOW,
                              .has = {true, true},
                              .L = L,
                              .H = H,
                              .E = E,
                              .F = F,
                              .hidden = {40, 32},
                              .state = {STATE_RESIDUAL, STATE_RESIDUAL},
                              .criterion = "snip"};
    predictor *p = predictor_new(&a, 1);
    for (int k = 0; k < UNIT_KINDS; k++)
        for (int j = 0; j < 4; j++) {
            size_t n;
            char *path = xasprintf("/%s/%s", kinds[k], parameters[j]);
            float *w = golden_read_as(&g, path, H5T_NATIVE_FLOAT, sizeof *w, &n);
            const net_tensor *t = &p->net[k][0].t[j];
            assert_int_equal(n, (size_t)t->rows * (size_t)t->cols);
            memcpy(p->net[k][0].w + t->at, w, n * sizeof *w);
            free(w), free(path);
        }
    float *x = golden_read_as(&g, "/x", H5T_NATIVE_FLOAT, sizeof *x, NULL);
    double got[2][L * F];
    for (int narrow = 0; narrow < 2; narrow++) {
        if (narrow) assert_int_equal(predictor_narrow(p, DT_Q8_0), 0);
        for (int k = 0; k < UNIT_KINDS; k++) {
            const int n = L * (k ? F : H);
            char *path = xasprintf("/%s/%s", kinds[k], narrow ? "scores" : "wide");
            double *want = golden_read_as(&g, path, H5T_NATIVE_DOUBLE, sizeof *want, NULL);
            for (int i = 0; i < EXAMPLES; i++) {
                const float *const state_of[] = {x + i * E, x + i * E};
                predictor_all(p, state_of, 0, got[0], got[1]);
                for (int u = 0; u < n; u++)
                    if (!(fabs(got[k][u] - want[i * n + u]) <= 1e-5))
                        fail_msg("%s of example %d: score %d is %g, not %g", path, i, u, got[k][u], want[i * n + u]);
            }
            free(want), free(path);
        }
    }
    free(x);
    predictor_close(p);
    assert_true(H5Fclose(g.file) >= 0);
}

// A prediction does not depend on the scale and offset of what the net reads: inputs are normalised inside.
static void inputs_are_normalised_inside(void **state) {
    (void)state;
    const predictor_info a = {
        .design = PREDICTOR_SHADOW, .has = {true, true}, .L = 2, .H = 3, .E = 8, .F = 4, .hidden = {6, 6}};
    predictor *p = predictor_new(&a, 1);
    float x[8] = {0, 1, 0.5f, 0.25f, 0.75f, 0, 1, 0.125f}, y[8];
    for (int i = 0; i < 8; i++) y[i] = 4 * x[i] - 8;  // exact in binary
    double h[2][6], n[2][8];
    predictor_all(p, (const float *const[2]){x, x}, 0, h[0], n[0]);
    predictor_all(p, (const float *const[2]){y, y}, 0, h[1], n[1]);
    assert_memory_equal(h[0], h[1], sizeof h[0]);
    assert_memory_equal(n[0], n[1], sizeof n[0]);
    // and it is relu(x W1' + b1) W2' + b2
    const net *t = p->net[0];
    for (int u = 0; u < 6; u++) {
        double s = (double)t->w[t->t[3].at + (size_t)u];
        for (int k = 0; k < 6; k++) {
            double z = (double)t->w[t->t[1].at + (size_t)k];
            for (int e = 0; e < 8; e++) z += (double)t->w[t->t[0].at + (size_t)(k * 8 + e)] * (double)x[e];
            s += fmax(z, 0) * (double)t->w[t->t[2].at + (size_t)(u * 6 + k)];
        }
        assert_true(fabs(h[0][u] - s) <= 1e-5);
    }
    predictor_close(p);
}

// Raw inputs reach the net of a layer as they are; normalised ones give the same either way.
static void raw_inputs(void **state) {
    (void)state;
    const predictor_info a = {.design = PREDICTOR_DEJAVU,
                              .per_layer = true,
                              .has = {true, true},
                              .L = 2,
                              .H = 3,
                              .E = 8,
                              .F = 4,
                              .hidden = {6, 6}};
    predictor *p = predictor_new(&a, 1);
    const float x[8] = {0, 1, 0.5f, 0.25f, 0.75f, 0, 1, 0.125f}, y[8] = {-3, 2, 0.5f, 7, -1, 0, 4, 0.125f};
    double h[2][3], n[2][4];
    predictor_layer(p, 1, (const float *const[2]){x, x}, h[0], n[0]);
    predictor_layer_raw(p, 1, (const float *const[2]){x, x}, h[1], n[1]);
    assert_memory_equal(h[0], h[1], sizeof h[0]);
    assert_memory_equal(n[0], n[1], sizeof n[0]);
    predictor_layer_raw(p, 1, (const float *const[2]){y, y}, h[1], n[1]);
    const net *t = &p->net[0][1];
    for (int u = 0; u < 3; u++) {
        double s = (double)t->w[t->t[3].at + (size_t)u];
        for (int k = 0; k < 6; k++) {
            double z = (double)t->w[t->t[1].at + (size_t)k];
            for (int e = 0; e < 8; e++) z += (double)t->w[t->t[0].at + (size_t)(k * 8 + e)] * (double)y[e];
            s += fmax(z, 0) * (double)t->w[t->t[2].at + (size_t)(u * 6 + k)];
        }
        assert_true(fabs(h[1][u] - s) <= 1e-5);
    }
    predictor_close(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quality_of_examples),
        cmocka_unit_test(normalisation),
        cmocka_unit_test(documents_stay_together),
        cmocka_unit_test(files_give_back_what_was_written),
        cmocka_unit_test(narrow_weights),
        cmocka_unit_test(nets_in_blocks),
        cmocka_unit_test(blocks_as_the_package_has_them),
        cmocka_unit_test(inputs_are_normalised_inside),
        cmocka_unit_test(raw_inputs),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
