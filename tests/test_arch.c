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

// ---------------------------------------------------------------- the Llama family
static const model_config llamas[] = {{.type = MODEL_LLAMA,
                                       .L = 2,
                                       .H = 6,
                                       .E = 32,
                                       .F = 48,
                                       .D = 8,
                                       .P = 32,
                                       .V = 61,
                                       .positions = 20,
                                       .llama = {.K = 2, .norm_eps = 1e-5, .rope = {.theta = 1e4}}},
                                      {.type = MODEL_QWEN2,
                                       .L = 2,
                                       .H = 4,
                                       .E = 24,
                                       .F = 33,
                                       .D = 6,
                                       .P = 24,
                                       .V = 61,
                                       .positions = 20,
                                       .tied = true,
                                       .llama = {.K = 4, .norm_eps = 1e-6, .rope = {.theta = 1e4}, .bias_qkv = true}},
                                      {.type = MODEL_QWEN3,
                                       .L = 2,
                                       .H = 4,
                                       .E = 20,
                                       .F = 33,
                                       .D = 10,
                                       .P = 20,
                                       .V = 61,
                                       .positions = 20,
                                       .llama = {.K = 1,
                                                 .norm_eps = 1e-6,
                                                 .rope = {.theta = 1e4},
                                                 .bias_qkv = true,
                                                 .bias_out = true,
                                                 .bias_ffn = true,
                                                 .qk_norm = true}}};

static void llama_names_and_shapes(void **state) {
    const model_config *c = *state;
    const llama_config *f = &c->llama;
    const family *of = arch_of(c).family;
    int n, layer, in_layers = 0;
    tensor *t = arch_tensor_list(c, &n);
    for (int i = 0; i < n; i++) {
        const tensor_spec *s = arch_find(of, t[i].name, &layer);
        assert_non_null(s);
        in_layers += s->place == IN_LAYER;
        if (strcmp(t[i].name, "layers.1.self_attn.v_proj.weight") == 0) {
            assert_int_equal(t[i].dim[0], f->K * c->D);
            assert_int_equal(t[i].dim[1], c->E);
        }
        if (strcmp(t[i].name, "layers.0.self_attn.o_proj.weight") == 0) {
            assert_int_equal(t[i].dim[0], c->E);
            assert_int_equal(t[i].dim[1], c->H * c->D);
        }
        if (strcmp(t[i].name, "layers.0.self_attn.k_norm.weight") == 0) assert_int_equal(t[i].dim[0], c->D);
    }
    assert_int_equal(in_layers, c->L * (9 + 3 * f->bias_qkv + f->bias_out + 3 * f->bias_ffn + 2 * f->qk_norm));
    assert_int_equal(n - in_layers, c->tied ? 2 : 3);
    assert_null(arch_find(of, "layers.0.fc1.weight", &layer));
    tensors_free(t, n);
}

// fp32: a query head has rows of q with their bias and columns of the output projection, a KV head rows of k and v with
// theirs, a neuron rows of gate and up with theirs and a column of down.
static void llama_bytes(void **state) {
    const model_config *c = *state;
    const llama_config *f = &c->llama;
    random_opt o;
    random_opt_make(&o, c, 6);
    const double E = c->E, A = c->H * c->D, W = f->K * c->D, F = c->F, b = f->bias_qkv, bo = f->bias_out,
                 bf = f->bias_ffn, V = c->V;
    double all = model_outer_bytes(&o.m, 0);
    assert_true(all == 4 * (V * E + E));
    assert_true(model_outer_bytes(&o.m, 3) == all + 4 * 3 * E);
    if (!c->tied) all += 4 * V * E;  // the embedding is not the head
    for (int l = 0; l < c->L; l++) {
        double of[OWNERS];
        model_layer_bytes(&o.m, l, of);
        assert_true(of[OWNER_HEAD] == 4 * A * (2 * E + b));
        assert_true(of[OWNER_KV_HEAD] == 4 * W * 2 * (E + b));
        assert_true(of[OWNER_NEURON] == 4 * F * (3 * E + 2 * bf));
        assert_true(of[OWNER_NONE] == 4 * (2 * E + (bo + bf) * E + (f->qk_norm ? 2 * c->D : 0)));
        assert_true(model_layer_macs(c, l) == 2 * E * A + 2 * E * W + 3 * E * F);
        for (int k = 0; k < OWNERS; k++) all += of[k];
    }
    assert_true(all == all_bytes(c));
    random_opt_free(&o);
}

static void llama_neuron_rows(void **state) {
    const model_config *c = *state;
    random_opt o;
    random_opt_make(&o, c, 7);
    static const char *const names[] = {"layers.1.mlp.gate_proj.weight", "layers.1.mlp.up_proj.weight"};
    for (int k = 0; k < 2; k++)
        assert_ptr_equal(model_neuron_rows(&o.m, 1, k, false)->data, weights_find(o.t, o.n, names[k]));
    assert_null(model_neuron_rows(&o.m, 1, 2, false));
    random_opt_free(&o);
}

int main(void) {
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } test[] = {{"names", names}, {"bytes", bytes}, {"one unit", one_unit}, {"rows of neurons", neuron_rows}};
    static const CMUnitTestFunction llama_test[] = {llama_names_and_shapes, llama_bytes, llama_neuron_rows};
    enum { SHAPES = sizeof shapes / sizeof *shapes, EACH = sizeof test / sizeof *test, FIRST = SHAPES * EACH };
    enum { LLAMA_SHAPES = sizeof llamas / sizeof *llamas, ALL = FIRST + 3 * LLAMA_SHAPES };
    struct CMUnitTest tests[ALL];
    for (int k = 0; k < FIRST; k++)
        tests[k] = (struct CMUnitTest){xasprintf("shape %d: %s", k / EACH, test[k % EACH].name), test[k % EACH].run,
                                       NULL, NULL, (void *)(uintptr_t)&shapes[k / EACH]};
    for (int k = 0; k < ALL - FIRST; k++)
        tests[FIRST + k] = (struct CMUnitTest){xasprintf("Llama shape %d: test %d", k / 3, k % 3), llama_test[k % 3],
                                               NULL, NULL, (void *)(uintptr_t)&llamas[k / 3]};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int k = 0; k < ALL; k++) free((void *)(uintptr_t)tests[k].name);
    return failed;
}
