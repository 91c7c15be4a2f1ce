// test_compact_files - files of compacted checkpoints: compacting twice is compacting once; number formats; configs
// that do not fit.
#include "compact_fixture.h"
#include "refusal.h"
#include "simd.h"

static void twice_is_once(void **state) {
    (void)state;
    rng r = rng_make(8);
    for (int shape = 0; shape < 4; shape += 3) {  // OPT; query heads that share KV heads
        model whole, first, second, once;
        mask m, more, both;
        make_source(&whole, &shapes[shape], DT_BF16, "source");
        make_mask(&m, &whole.c, &r, 0);
        compacted(&first, &whole, &m, COMPACT_AS_STORED, "first");
        make_mask(&more, &first.c, &r, 1);
        compacted(&second, &first, &more, COMPACT_AS_STORED, "second");
        make_both(&both, &whole.c, &m, &first.c, &more);
        compacted(&once, &whole, &both, COMPACT_AS_STORED, "once");
        assert_string_equal(ckpt_hash(&once.file), ckpt_hash(&second.file));
        assert_true(strcmp(ckpt_hash(&once.file), ckpt_hash(&first.file)) != 0);
        mask_free(&m), mask_free(&more), mask_free(&both);
        model_free(&whole), model_free(&first), model_free(&second), model_free(&once);
    }
}

// Equal widths in every layer: an ordinary checkpoint, of a Llama whose E is no multiple of the heads left a Mistral;
// an OPT keeps the lists, unless all of its heads are there.
static void equal_widths(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        model_config c = shapes[k == 2 ? 0 : 4];
        if (k == 1) c.E = c.P = 22;
        model whole, small;
        mask m;
        make_source(&whole, &c, DT_F32, "source");
        mask_alloc(&m, &c);
        for (int l = 0; l < c.L; l++) m.heads[l * c.H + l % c.H] = m.neurons[l * c.F + l] = 0;
        if (k == 2) memset(m.heads, 1, (size_t)(c.L * c.H));
        compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
        assert_true(!small.c.heads && !small.c.neurons);
        assert_int_equal(small.c.type, ((model_type[]){MODEL_LLAMA, MODEL_MISTRAL, MODEL_OPT})[k]);
        assert_int_equal(small.c.H, k == 2 ? c.H : c.H - 1);
        assert_int_equal(small.c.F, c.F - 1);
        model_free(&small);
        if (k == 2) {
            for (int l = 0; l < c.L; l++) m.heads[l * c.H] = 0;
            compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
            assert_true(small.c.heads && small.c.neurons);
            model_free(&small);
        }
        mask_free(&m);
        model_free(&whole);
    }
}

// Every kept weight is the stored one, rounded to the type asked for as the compiler rounds.
static void types(void **state) {
    (void)state;
    rng r = rng_make(9);
    model whole, small;
    mask m;
    make_source(&whole, &shapes[0], DT_F32, "source");
    make_mask(&m, &whole.c, &r, 4);
    for (int type = DT_F32; type <= DT_BF16; type++) {
        compacted(&small, &whole, &m, type, "small");
        assert_int_equal(small.c.declared, type);
        assert_int_equal(small.file.n_tensors, whole.file.n_tensors);
        for (int i = 0; i < small.file.n_tensors; i++) {
            const tensor *t = &small.file.tensors[i];
            const float *x = ckpt_find(&whole.file, t->name)->data;
            assert_int_equal(t->type, type);
            for (size_t k = 0; k < tensor_bytes(t) / dtype_bytes((dtype)type); k++) {
                if (type == DT_F32)
                    assert_true(((const float *)t->data)[k] == x[k]);
                else if (type == DT_F16)
                    assert_true((float)((const _Float16 *)t->data)[k] == (float)(_Float16)x[k]);
                else {
                    union {
                        uint32_t u;
                        float f;
                    } b = {.u = (uint32_t)((const uint16_t *)t->data)[k] << 16};
                    assert_true(fabsf(b.f - x[k]) <= fabsf(x[k]) * 0x1p-8f);
                }
            }
        }
        model_free(&small);
    }
    mask_free(&m);
    model_free(&whole);
    for (uint32_t u = 0; u < 0x47800000u; u += 4093) {  // halves: every 4093rd float up to 65536, ties too
        union {
            uint32_t u;
            float f;
        } x = {.u = u}, tie = {.u = (u & ~0x1fffu) | 0x1000};
        for (int k = 0; k < 2; k++) {
            const _Float16 want = (_Float16)(k ? tie.f : x.f);
            uint16_t bits;
            memcpy(&bits, &want, 2);
            assert_int_equal(float_to_half(k ? tie.f : x.f), bits);
            assert_int_equal(float_to_half(k ? -tie.f : -x.f), bits | 0x8000);
        }
    }
    assert_int_equal(float_to_half(INFINITY), 0x7c00);
    assert_true(isnan(half_to_float(float_to_half(-NAN))));
    // bfloat16: nearest, ties to even
    assert_int_equal(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(float_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
    assert_int_equal(float_to_bf16(1.0f + 0x1.02p-8f), 0x3f81);
}

static void weights_outside_fp16(void **state) {
    (void)state;
    int n;
    tensor *t = random_weights(&shapes[0], 7, &n);
    weights_find(t, n, "layers.1.fc1.weight")[5] = 70000;
    char *dir = folder("large"), *out = folder("narrow");
    assert_int_equal(ckpt_save(dir, &shapes[0], t, n), 0);
    ckpt c;
    mask m;
    assert_int_equal(ckpt_open(&c, dir), 0);
    mask_alloc(&m, &c.config);
    assert_int_equal(compact_save(out, &c, &m, NULL, DT_F16, COMPACT_SMALL), -1);
    assert_non_null(strstr(err_get(), "layers.1.fc1.weight: a weight is 70000"));
    char *file = xasprintf("%s/model.safetensors", out);
    assert_false(file_exists(file));
    assert_int_equal(compact_save(out, &c, &m, NULL, DT_BF16, COMPACT_SMALL), 0);
    assert_true(file_exists(file));
    mask_free(&m);
    ckpt_close(&c);
    weights_free(t, n);
    free(file), free(dir), free(out);
}

static void bad_configs(void **state) {
    (void)state;
    rng r = rng_make(10);
    model whole, small;
    mask m;
    make_source(&whole, &shapes[0], DT_F32, "source");
    make_mask(&m, &whole.c, &r, 4);
    m.heads[0] = m.heads[whole.c.H] = m.heads[whole.c.H + 1] = m.neurons[3] = 0;  // heads 3 2 4 4, neurons 39 40 40 40
    compacted(&small, &whole, &m, COMPACT_AS_STORED, "small");
    char *dir = folder("small"), *path = folder("small/config.json"), *good = file_read(path, NULL);
    const struct {
        const char *what, *with, *says;
    } cases[] = {
        {"    3,\n    2,", "    2,\n    3,",
         "tensor layers.0.self_attn.k_proj.bias has shape [18], but config.json asks for [12]"},
        {"    39,", "    38,", "tensor layers.0.fc1.bias has shape [39], but config.json asks for [38]"},
        {"    39,", "    41,", "\"ffn_dim_per_layer\": layer 0 is no whole number in 0..40"},
        {"    39,", "    -1,", "\"ffn_dim_per_layer\": layer 0 is no whole number in 0..40"},
        {"    39,", "    .5,", "not valid JSON"},
        {"    3,\n    2,", "    \"x\", 2,", "\"num_attention_heads_per_layer\": layer 0 is no whole number in 0..4"},
        {"    3,\n    2,", "    3      ", "not valid JSON"},
        {"    3,\n    2,\n", "    3,        \n",
         "\"num_attention_heads_per_layer\" is not a list of 4 numbers, one per layer"},
        {"\"num_attention_heads_per_layer\"", "\"num_attention_heads_per_lover\"", "but config.json asks for"},
        {"\"ffn_dim_per_layer\": [\n    39,\n    40,\n    40,\n    40\n  ]",
         "\"ffn_dim_per_layer\": 39                                ",
         "\"ffn_dim_per_layer\" is not a list of 4 numbers"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = changed(good, cases[i].what, cases[i].with);
        FILE *f = fopen(path, "w");
        fputs(text, f);
        fclose(f);
        free(text);
        ckpt c;
        if (ckpt_open(&c, dir) == 0) fail_msg("case %zu is accepted", i);
        if (!strstr(err_get(), cases[i].says)) fail_msg("case %zu: %s", i, err_get());
    }
    free(dir), free(path), free(good);
    mask_free(&m);
    model_free(&small), model_free(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(twice_is_once), cmocka_unit_test(equal_widths),
                                       cmocka_unit_test(types), cmocka_unit_test(weights_outside_fp16),
                                       cmocka_unit_test(bad_configs)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
