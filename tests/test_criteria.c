// test_criteria - what every registered criterion promises (finite, deterministic, of its own unit alone, nothing read
// that was not declared), and that a broken promise is found; the registry; random scores. Their formulas:
// test_formulas.
#include "criteria_taps.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *broken_promise_here(crit_fn *f, unsigned needs, unit_kind kind) {
    for (int i = 0; i < SHAPES; i++) {
        taps p = taps_make(shapes[i], (uint64_t)(100 + i));
        int n = kind == UNIT_HEADS ? p.s.H : p.s.F, tile = kind == UNIT_HEADS ? 1 : CRIT_TILE;
        size_t bytes = (size_t)n * sizeof(float);
        float *one = xmalloc(bytes), *two = xmalloc(bytes);
        const char *bad = NULL;
        if (!run(one, f, needs, kind, &p, tile, 0, 0, 9)) bad = "writes beside its scores";
        for (int u = 0; u < n; u++)
            if (!bad && !isfinite(one[u])) bad = "is not finite";
        run(two, f, needs, kind, &p, tile, 0, 0, 9);
        if (!bad && memcmp(one, two, bytes)) bad = "differs between two runs";
        for (int shift = 0; shift < 4 && !bad; shift++) {
            run(two, f, needs, kind, &p, tile, 5 + 8 * shift, shift, 9);
            if (memcmp(one, two, bytes)) bad = "depends on where the tile lies";
        }
        for (int width = 1; width < 50 && !bad && kind == UNIT_NEURONS; width = 3 * width + 1) {
            run(two, f, needs, kind, &p, width, 2, 1, 9);
            if (memcmp(one, two, bytes)) bad = "depends on the other units of its tile";
        }
        free(one);
        free(two);
        taps_free(&p);
        if (bad) return bad;
    }
    return NULL;
}

// What every criterion promises; NULL or the promise that is broken. First in a child, which may crash.
static const char *broken_promise(crit_fn *f, unsigned needs, unit_kind kind) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);  // not the handler of the test framework
        signal(SIGBUS, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        broken_promise_here(f, needs, kind);
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) fail_msg("cannot run a child process");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return "crashes: it may read what it did not declare";
    return broken_promise_here(f, needs, kind);
}

static void check_promises(const criterion *c, const char *mode, unit_kind kind, crit_fn *f, unsigned needs) {
    const char *bad = broken_promise(f, needs, kind);
    if (bad) fail_msg("%s %s %s %s", c->name, mode, unit_names[kind], bad);
}

static void test_promises(void **state) {
    (void)state;
    each_function(check_promises);
}

static void test_registry(void **state) {
    (void)state;
    static const char *const names[] = {"epenas", "fisher",   "flap",   "grad_norm", "grasp", "jacov", "l2_norm",
                                        "nwot",   "plainact", "random", "removal",   "snip",  "wanda"};
    static const char *const by_name[] = {"flap", "removal", "wanda"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const criterion *c = crit_find(names[i]);
        if (!c) fail_msg("%s is not registered", names[i]);
        bool named = false;
        for (int k = 0; k < 3; k++) named |= strcmp(names[i], by_name[k]) == 0;
        assert_int_equal(c->by_name_only, named);
    }
    assert_null(crit_find("none"));
    for (int i = 0; crit_all[i]; i++) {
        const criterion *c = crit_all[i];
        assert_true(c->name && c->about && c->sound.heads_doc && c->sound.neurons_doc);
        assert_true(c->pooled || c->compat.heads_doc);
        assert_true(c->pooled || c->sound.task || (c->sound.heads && c->sound.neurons));
    }
}

// ---------------------------------------------------------------- the promises can be broken
static void mean_over_tile(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++)
        for (int u = 0; u < in->U; u++) sum += in->act[t * in->ld + u];
    for (int u = 0; u < in->U; u++) out[u] = (float)(sum / in->U);
}
static void not_a_number(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = logf(-1 - fabsf(in->act[u]));
}
static void ignores_ld(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = in->act[(in->T - 1) * in->U * in->D + u];
}
static void remembers(float *out, const crit_in *in) {
    static int calls;
    for (int u = 0; u < in->U; u++) out[u] = (float)++calls;
}
static void undeclared(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = in->grad[u];
}
static void undeclared_sum(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)crit_sum(in, u, USUM_GRAD);
}

static void writes_outside(float *out, const crit_in *in) {
    for (int u = 0; u <= in->U; u++) out[u] = 1;
}

static void test_faults_are_found(void **state) {
    (void)state;
    assert_non_null(broken_promise(mean_over_tile, CRIT_ACT, UNIT_NEURONS));
    crit_fn *bad[] = {not_a_number, ignores_ld, remembers, writes_outside};
    for (int i = 0; i < 4; i++)
        for (int kind = UNIT_HEADS; kind <= UNIT_NEURONS; kind++)
            assert_non_null(broken_promise(bad[i], CRIT_ACT, kind));
    assert_non_null(broken_promise(undeclared, CRIT_ACT, UNIT_NEURONS));
    for (int kind = UNIT_HEADS; kind <= UNIT_NEURONS; kind++) {
        assert_non_null(broken_promise(undeclared_sum, CRIT_SUM(USUM_ACT), kind));
        assert_null(broken_promise(undeclared_sum, CRIT_SUM(USUM_GRAD), kind));
    }
}

static void test_random(void **state) {
    (void)state;
    enum { N = 4096 };
    float one[N], two[CRIT_TILE];
    const crit_mode *m = &crit_find("random")->sound;
    double mean = 0, square = 0;
    for (int u = 0; u < N; u += CRIT_TILE) {
        crit_in in = {.U = CRIT_TILE, .layer = 2, .unit = u, .seed = 1, .key = 2};
        m->neurons(one + u, &in);
    }
    for (int u = 0; u < N; u++) {
        assert_true(one[u] >= 0 && one[u] < 1);
        mean += one[u] / (double)N;
        square += (double)one[u] * one[u] / N;
    }
    assert_true(fabs(mean - 0.5) < 0.02 && fabs(square - 1.0 / 3) < 0.02);  // over four standard errors
    crit_in other[] = {{.layer = 3, .seed = 1, .key = 2},
                       {.layer = 2, .seed = 3, .key = 2},
                       {.layer = 2, .seed = 1, .key = 3},
                       {.layer = 2, .seed = 1, .key = 2}};
    for (int i = 0; i < 4; i++) {
        other[i].U = i == 3 ? 1 : CRIT_TILE;
        (i == 3 ? m->heads : m->neurons)(two, &other[i]);  // the last: the same place among the heads
        assert_true(two[0] != one[0]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_registry), cmocka_unit_test(test_promises),
                                       cmocka_unit_test(test_faults_are_found), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
