// test_arch - the table of a family's tensors and what is read off it: names, bytes by owner against closed forms, what
// one unit saves against the checkpoint without it, multiply-adds, the weight rows of neurons.
#include "opt_fixture.h"

static const int heads_left[] = {3, 0, 4}, neurons_left[] = {7, 20, 0};
static const model_config shapes[] = {
    {.L = 3,
     .H = 4,
     .E = 32,
     .F = 48,
     .D = 8,
     .P = 32,
     .V = 61,
     .positions = 20,
     .pre_ln = true,
     .final_ln = true,
     .bias = true},
    {.L = 3, .H = 2, .E = 24, .F = 33, .D = 12, .P = 10, .V = 61, .positions = 20, .bias = true},
    {.L = 3, .H = 4, .E = 32, .F = 48, .D = 8, .P = 32, .V = 61, .positions = 20, .pre_ln = true},
    {.L = 3,
     .H = 4,
     .E = 32,
     .F = 48,
     .D = 8,
     .P = 32,
     .V = 61,
     .positions = 20,
     .pre_ln = true,
     .final_ln = true,
     .bias = true,
     .heads = (int *)(uintptr_t)heads_left,
     .neurons = (int *)(uintptr_t)neurons_left}};

static double all_bytes(const model_config *c) {
    int n;
    tensor *t = arch_tensor_list(c, &n);
    double bytes = 0;
    for (int i = 0; i < n; i++) bytes += (double)tensor_bytes(&t[i]);
    tensors_free(t, n);
    return bytes;
}

// Every tensor of a model is found by its name, in its layer, with the sizes that it has; other names are not.
static void names(void **state) {
    const model_config *c = *state;
    const family *f = arch_of(c).family;
    int n, layer, in_layers = 0;
    tensor *t = arch_tensor_list(c, &n);
    for (int i = 0; i < n; i++) {
        const tensor_spec *s = arch_find(f, t[i].name, &layer);
        assert_non_null(s);
        assert_int_equal(arch_size(c, layer, s->rows), t[i].dim[0]);
        assert_int_equal(s->cols == DIM_NONE ? 1 : arch_size(c, layer, s->cols), t[i].dim[1]);
        char prefix[20];
        snprintf(prefix, sizeof prefix, "layers.%d.", layer);
        assert_int_equal(s->place == IN_LAYER, strncmp(t[i].name, prefix, strlen(prefix)) == 0);
        in_layers += s->place == IN_LAYER;
    }
    assert_int_equal(in_layers, c->L * (c->bias ? 16 : 10));
    assert_int_equal(n - in_layers, 2 + (c->P != c->E ? 2 : 0) + (c->final_ln ? 2 : 0));
    assert_null(arch_find(f, "layers.0.fc3.weight", &layer));
    assert_null(arch_find(f, "fc1.weight", &layer));
    assert_null(arch_find(f, "layers.0.embed_tokens.weight", &layer));
    tensors_free(t, n);
}

// fp32: a head has q, k, v rows with their biases and columns of the output projection, a neuron a row of W1 with its
// bias and a column of W2.
static void bytes(void **state) {
    const model_config *c = *state;
    random_opt o;
    random_opt_make(&o, c, 3);
    const double E = c->E, D = c->D, b = c->bias ? 1 : 0, P = c->P, V = c->V, project = c->P != c->E ? 2 * P * E : 0,
                 last = c->final_ln ? 2 * E : 0;
    double all = model_outer_bytes(&o.m, 0);
    assert_true(all == 4 * (V * P + project + last));  // the head is the embedding
    assert_true(model_outer_bytes(&o.m, 3) == all + 4 * 3 * (P + E));
    for (int l = 0; l < c->L; l++) {
        const double H = model_units(c, l, UNIT_HEADS), F = model_units(c, l, UNIT_NEURONS);
        double of[OWNERS];
        model_layer_bytes(&o.m, l, of);
        assert_true(of[OWNER_HEAD] == 4 * H * D * (2 * E + b));
        assert_true(of[OWNER_KV_HEAD] == 4 * H * D * 2 * (E + b));
        assert_true(of[OWNER_NEURON] == 4 * F * (2 * E + b));
        assert_true(of[OWNER_NONE] == 4 * (4 * E + b * 2 * E));
        assert_true(model_layer_macs(c, l) == 4 * E * H * D + 2 * E * F);
        for (int k = 0; k < OWNERS; k++) all += of[k];
    }
    assert_true(all + 4 * (c->positions + 2) * E == all_bytes(c));
    random_opt_free(&o);
}

// Bytes of the checkpoint without one neuron, or without one head.
static void one_unit(void **state) {
    const model_config *c = *state;
    random_opt o;
    random_opt_make(&o, c, 4);
    for (int kind = UNIT_HEADS; kind <= UNIT_NEURONS; kind++) {
        int left[2][3];
        double of[OWNERS];
        const int layer = kind == UNIT_HEADS ? 2 : 1, units = model_units(c, layer, kind);
        model_layer_bytes(&o.m, layer, of);
        for (int k = 0; k < 2; k++)
            for (int l = 0; l < c->L; l++) left[k][l] = model_units(c, l, k) - (k == kind && l == layer);
        model_config less = *c;
        less.heads = left[UNIT_HEADS], less.neurons = left[UNIT_NEURONS];
        const double saved = all_bytes(c) - all_bytes(&less);
        assert_true(saved == (kind == UNIT_HEADS ? of[OWNER_HEAD] + of[OWNER_KV_HEAD] : of[OWNER_NEURON]) / units &&
                    saved > 0);
    }
    random_opt_free(&o);
}

static void neuron_rows(void **state) {
    const model_config *c = *state;
    random_opt o;
    random_opt_make(&o, c, 5);
    const weight *w = model_neuron_rows(&o.m, 1, 0, false);
    assert_ptr_equal(w->data, weights_find(o.t, o.n, "layers.1.fc1.weight"));
    assert_int_equal(w->rows, model_units(c, 1, UNIT_NEURONS));
    assert_ptr_equal(model_neuron_rows(&o.m, 1, 0, true)->data, w->data);
    assert_null(model_neuron_rows(&o.m, 1, 1, false));
    random_opt_free(&o);
}

int main(void) {
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } test[] = {{"names", names}, {"bytes", bytes}, {"one unit", one_unit}, {"rows of neurons", neuron_rows}};
    enum { SHAPES = sizeof shapes / sizeof *shapes, EACH = sizeof test / sizeof *test };
    struct CMUnitTest tests[SHAPES * EACH];
    for (int k = 0; k < SHAPES * EACH; k++)
        tests[k] = (struct CMUnitTest){xasprintf("shape %d: %s", k / EACH, test[k % EACH].name), test[k % EACH].run,
                                       NULL, NULL, (void *)(uintptr_t)&shapes[k / EACH]};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int k = 0; k < SHAPES * EACH; k++) free((void *)(uintptr_t)tests[k].name);
    return failed;
}
