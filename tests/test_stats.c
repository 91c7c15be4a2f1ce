// test_stats - rank statistics against scipy (tests/golden/make_stats.py) and against closed forms.
#include "stats.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const double a[10] = {3.5, -1.0, 2.25, 2.25, 7.0, 0.0, 2.25, -1.0, 11.0, 4.0};
static const double b[10] = {1.0, 0.5, 3.0, 3.0, 2.0, -4.0, 8.0, 0.25, 6.0, 6.0};

static void near(double got, double want) { assert_true(fabs(got - want) <= 1e-14 * fmax(1, fabs(want))); }

static void ranks_share_ties(void **state) {
    (void)state;
    const double of_a[10] = {7.0, 1.5, 5.0, 5.0, 9.0, 3.0, 5.0, 1.5, 10.0, 8.0},
                 of_b[10] = {4.0, 3.0, 6.5, 6.5, 5.0, 1.0, 10.0, 2.0, 8.5, 8.5};
    double rank[10];
    stats_ranks(rank, a, 10);
    for (int i = 0; i < 10; i++) assert_true(rank[i] == of_a[i]);
    stats_ranks(rank, b, 10);
    for (int i = 0; i < 10; i++) assert_true(rank[i] == of_b[i]);
}

static void spearman(void **state) {
    (void)state;
    near(stats_spearman(a, b, 10), 0.6068373206571356);
    // without ties 1 - 6 sum d^2 / (n (n^2 - 1)): ranks 1 2 3 4 5 against 2 1 4 5 3, d^2 = 1 + 1 + 1 + 1 + 4
    near(stats_spearman((double[]){1, 2, 3, 4, 5}, (double[]){2, 1, 4, 5, 3}, 5), 1 - 6 * 8 / (5.0 * 24));
    near(stats_spearman(a, a, 10), 1);
    assert_true(isnan(stats_spearman(a, (double[10]){0}, 10)));  // a constant has no ranks to compare
    assert_true(isnan(stats_spearman(a, b, 1)));
}

static void lowest_go_and_among_equals_the_first(void **state) {
    (void)state;
    uint8_t keep[10];
    const uint8_t want[10] = {1, 0, 0, 0, 1, 0, 1, 0, 1, 1};  // -1 -1 0 and two of the three 2.25
    stats_keep(keep, a, 10, 5);
    assert_memory_equal(keep, want, 10);
    stats_keep(keep, a, 10, 0);
    for (int i = 0; i < 10; i++) assert_int_equal(keep[i], 1);
}

static void overlaps(void **state) {
    (void)state;
    // layer 0 is dense; layers 1 and 2 keep {2, 3}, {6, 7} by x and {3, 6}, {0, 1 of that layer} by y
    const double x[12] = {9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8}, y[12] = {0, 0, 0, 0, 1, 2, 0, 9, 8, 7, 6, 5};
    near(stats_overlap(x, y, NULL, 3, 4, 1, 50, false), 0.25);    // {2,3} and {1,3}: 1/2; {2,3} and {0,1}: 0
    near(stats_overlap(x, y, NULL, 3, 4, 1, 50, true), 0.75);     // {4,5,6,7} and {3,4,5,6}
    near(stats_overlap(x, y, NULL, 3, 4, 1, 37, true), 5 / 6.0);  // floor(2.96) = 2 pruned: {2..7} and {1, 3..7}
    assert_true(isnan(stats_overlap(x, y, NULL, 3, 4, 3, 50, true)));
}

static void moments(void **state) {
    (void)state;
    stats_moments m = {0};
    assert_true(isnan(stats_variance(&m)));
    for (int i = 0; i < 10; i++) stats_add(&m, a[i]);
    near(m.mean, 3.025);
    near(stats_variance(&m), 13.770138888888889);
    stats_moments far = {0};  // the sum of squares would lose every digit
    for (int i = 0; i < 10; i++) stats_add(&far, 1e9 + a[i]);
    assert_true(fabs(stats_variance(&far) - 13.770138888888889) <= 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_share_ties), cmocka_unit_test(spearman),
                                       cmocka_unit_test(lowest_go_and_among_equals_the_first),
                                       cmocka_unit_test(overlaps), cmocka_unit_test(moments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
