// test_mask_groups - masks of whole groups of heads (--group-heads): cases worked by hand; scores in host memory and in
// a device's, of all layers and of one; where every head is a group of its own, nothing changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "mask.h"
#include "ops.h"

static mask_rule rule_of(mask_scope scope, long percent, int dense) {
    return (mask_rule){
        .scope = scope, .units = UNITS_HEADS, .sparsity = 1000 * percent, .dense_layers = dense, .group_heads = true};
}

static void check(const uint8_t *keep, const char *want) {
    for (int i = 0, j = 0; want[j]; j++)
        if (want[j] != ' ' && keep[i++] != want[j] - '0')
            fail_msg("head %d is %d in place of %s", i - 1, keep[i - 1], want);
}

// Three layers of six heads on three KV heads. Means of the groups, layer by layer: 5 4 6 | 3 3 9 | 1 8 2. By the
// largest or the smallest of its heads the order would be another.
static const model_config three = {.type = MODEL_LLAMA, .L = 3, .H = 6, .F = 1, .llama = {.K = 3}};
static const double hand[18] = {10, 0, 4, 4, 5, 7, 3, 3, 0, 6, 8, 10, 1, 1, 8, 8, 0, 4};

static void by_hand(void **state) {
    (void)state;
    const struct {
        mask_scope scope;
        long percent;
        int dense;
        const char *want;
    } t[] = {
        {SCOPE_LOCAL, 34, 0, "110011 001111 001111"},   // one of three in each layer; of two means of 3 the first
        {SCOPE_LOCAL, 67, 1, "111111 000011 001100"},   // floor(2.01) of each, floor(4.02) in all
        {SCOPE_LOCAL, 50, 1, "111111 000011 001111"},   // one each, and one more of the first layer: 3 of 6
        {SCOPE_GLOBAL, 50, 1, "111111 001111 001100"},  // of 3 3 9 1 8 2 the lowest three: 1, 2 and the first 3
        {SCOPE_GLOBAL, 45, 0, "111111 000011 001100"},  // floor(4.05) = 4 of 9: 1 2 3 3
        {SCOPE_HYBRID, 84, 1, "111111 000011 000000"},  // keep floor(0.96) + 1 = 1 < layers: the highest
        {SCOPE_HYBRID, 67, 1, "111111 000011 001100"},  // keep 2: one of each layer
    };
    mask m;
    mask_alloc(&m, &three);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const mask_rule rule = rule_of(t[i].scope, t[i].percent, t[i].dense);
        assert_int_equal(mask_make(&m, &three, hand, NULL, &rule), 0);
        check(m.heads, t[i].want);
    }
    mask_rule rule = rule_of(SCOPE_LOCAL, 50, 1);
    rule.counts = COUNTS_FLOOR;
    assert_int_equal(mask_make(&m, &three, hand, NULL, &rule), 0);
    check(m.heads, "111111 001111 001111");
    mask_free(&m);
}

// A compacted layer may have groups of different sizes: the mean, not the sum, says which goes, and absent heads are 0.
static void of_what_is_left(void **state) {
    (void)state;
    int heads[2] = {4, 3}, reads[12] = {0, 0, 0, 1, 0, 0, 0, 1, 2};
    model_config c = three;
    c.L = 2, c.heads = heads, c.reads = reads;
    const double score[12] = {2, 2, 2, 5, NAN, NAN, 3, 4, 1, NAN, NAN, NAN};  // means 2 5 | 3 4 1
    mask m;
    mask_alloc(&m, &c);
    mask_rule rule = rule_of(SCOPE_GLOBAL, 40, 0);  // two of the five groups
    assert_int_equal(mask_make(&m, &c, score, NULL, &rule), 0);
    check(m.heads, "000100 110000");
    rule = rule_of(SCOPE_LOCAL, 50, 0);  // one each
    assert_int_equal(mask_make(&m, &c, score, NULL, &rule), 0);
    check(m.heads, "000100 110000");
    // standardised within layers the groups are -.71 .71 | .22 .87 -1.09: the last goes
    rule = rule_of(SCOPE_GLOBAL, 20, 0);
    rule.standardise = true;
    assert_int_equal(mask_make(&m, &c, score, NULL, &rule), 0);
    check(m.heads, "111100 110000");
    mask_free(&m);
}

static void on_a_device(void **state) {
    (void)state;
    const ops *o = ops_open("cpu");
    rng r = rng_make(4);
    mask want, got;
    mask_alloc(&want, &three);
    mask_alloc(&got, &three);
    for (int round = 0; round < 200; round++) {
        double score[18];
        float on[18];
        for (int i = 0; i < 18; i++) on[i] = (float)(score[i] = (double)rng_below(&r, 9));
        mask_rule rule = rule_of((mask_scope)(round % 3), (long)rng_below(&r, 101), round / 3 % 3);
        assert_int_equal(mask_make(&want, &three, score, NULL, &rule), 0);
        assert_int_equal(mask_make_kind(&got, &three, UNIT_HEADS, o, on, &rule), 0);
        assert_memory_equal(got.heads, want.heads, 18);
        if (rule.scope != SCOPE_LOCAL) continue;
        mask_fill(&got, &three);
        for (int l = 0; l < 3; l++)
            assert_int_equal(mask_make_layer(&got, &three, UNIT_HEADS, l, o, on + 6 * l, &rule), 0);
        assert_memory_equal(got.heads, want.heads, 18);
        on[7] = NAN;
        assert_int_equal(mask_make_layer(&got, &three, UNIT_HEADS, 1, o, on + 6, &rule),
                         rule.dense_layers > 1 ? 0 : -1);
    }
    mask_free(&want);
    mask_free(&got);
}

static void groups_of_one(void **state) {
    (void)state;
    model_config c = {.L = 3, .H = 6, .F = 1};  // OPT
    mask want, got;
    mask_alloc(&want, &c);
    mask_alloc(&got, &c);
    for (int scope = 0; scope < 3; scope++)
        for (long percent = 0; percent <= 100; percent += 5) {
            mask_rule rule = rule_of((mask_scope)scope, percent, 1);
            assert_int_equal(mask_make(&got, &c, hand, NULL, &rule), 0);
            rule.group_heads = false;
            assert_int_equal(mask_make(&want, &c, hand, NULL, &rule), 0);
            assert_memory_equal(got.heads, want.heads, 18);
        }
    mask_free(&want);
    mask_free(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(of_what_is_left),
                                       cmocka_unit_test(on_a_device), cmocka_unit_test(groups_of_one)};
    return cmocka_run_group_tests_name("mask_groups", tests, NULL, NULL);
}
