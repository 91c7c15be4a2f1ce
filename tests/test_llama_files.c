// test_llama_files - config.json of the Llama family: what is read, defaults, what is refused by name; the hash; a
// saved checkpoint is the one it was made of.
#include "model.h"
#include "refusal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// A configuration of a type with more keys (each after a comma).
static int parse(model_config *c, const char *type, const char *more) {
    char *text = xasprintf("{\"model_type\":\"%s\",\"num_hidden_layers\":2,\"num_attention_heads\":4,"
                           "\"hidden_size\":32,\"intermediate_size\":24,\"vocab_size\":50,"
                           "\"max_position_embeddings\":128%s}",
                           type, more);
    const int bad = model_config_parse(text, strlen(text), "text", c);
    free(text);
    return bad;
}

static model_config good(const char *type, const char *more) {
    model_config c;
    if (parse(&c, type, more)) fail_msg("%s: %s", type, err_get());
    return c;
}

static void defaults(void **state) {
    (void)state;
    for (int t = MODEL_LLAMA; t <= MODEL_QWEN3; t++) {
        const model_config c = good(model_type_names[t], "");
        const llama_config *f = &c.llama;
        assert_int_equal(c.type, t);
        assert_true(c.pre_ln && c.final_ln && !c.tied && c.P == 32 && c.positions == 128);
        assert_int_equal(f->K, 4);
        assert_int_equal(c.D, t == MODEL_QWEN3 ? 128 : 8);
        assert_int_equal(f->act, ACT_SILU);
        assert_true(f->norm_eps == 1e-6 && f->rope.kind == ROPE_DEFAULT && f->rope.theta == 1e4);
        assert_int_equal(f->bias_qkv, t == MODEL_QWEN2);
        assert_true(!f->bias_out && !f->bias_ffn);
        assert_int_equal(f->qk_norm, t == MODEL_QWEN3);
        assert_true(c.bos == -1 && c.eos == -1 && c.pad == -1 && c.declared == DT_F32);
    }
}

static void neox(void **state) {
    (void)state;
    model_config c = good("gpt_neox", "");
    assert_true(c.parallel && c.rotary == 2 && c.llama.act == ACT_GELU && c.llama.norm_eps == 1e-5 && !c.tied);
    assert_true(c.llama.bias_qkv && c.llama.bias_out && c.llama.bias_ffn && c.llama.rope.theta == 1e4 &&
                c.llama.K == 4);
    c = good("gpt_neox", ",\"rotary_pct\":0.5,\"rotary_emb_base\":500,\"use_parallel_residual\":false,"
                         "\"attention_bias\":false,\"hidden_act\":\"gelu_fast\"");
    assert_true(!c.parallel && c.rotary == 4 && c.llama.rope.theta == 500 && !c.llama.bias_qkv && c.llama.bias_ffn);
    assert_int_equal(c.llama.act, ACT_GELU_TANH);
    c = good("gpt_neox",
             ",\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":1.0,\"rope_theta\":77.0}");
    assert_true(c.rotary == 8 && c.llama.rope.theta == 77);
    assert_int_equal(parse(&c, "gpt_neox", ",\"rotary_pct\":0.2"), -1);
    assert_non_null(strstr(err_get(), "rotary positions turn pairs"));
    assert_int_equal(parse(&c, "gpt_neox", ",\"num_attention_heads\":5"), -1);
}

static void keys(void **state) {
    (void)state;
    model_config c =
        good("llama", ",\"num_key_value_heads\":2,\"head_dim\":16,\"hidden_act\":\"relu\",\"rms_norm_eps\":1e-5,"
                      "\"attention_bias\":true,\"mlp_bias\":true,\"tie_word_embeddings\":true,"
                      "\"bos_token_id\":1,\"eos_token_id\":[7,8],\"rope_theta\":5e5,\"dtype\":\"bfloat16\","
                      "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
                      "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}");
    const llama_config *f = &c.llama;
    assert_true(f->K == 2 && c.D == 16 && f->act == ACT_RELU && f->norm_eps == 1e-5 && c.tied);
    assert_true(f->bias_qkv && f->bias_out && f->bias_ffn && c.bos == 1 && c.eos == 7 && c.declared == DT_BF16);
    assert_true(f->rope.kind == ROPE_LLAMA3 && f->rope.theta == 5e5 && f->rope.factor == 8 && f->rope.low == 1 &&
                f->rope.high == 4 && f->rope.old == 64);
    c = good("llama", ",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2.5,\"rope_theta\":777.0}");
    assert_true(c.llama.rope.kind == ROPE_LINEAR && c.llama.rope.factor == 2.5 && c.llama.rope.theta == 777);
    c = good("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}");
    assert_true(c.llama.rope.kind == ROPE_LINEAR && c.llama.rope.factor == 4);
    c = good("qwen3", ",\"attention_bias\":true,\"head_dim\":null");
    assert_true(c.llama.bias_qkv && c.llama.bias_out && c.D == 128);
    // a sliding window bounds the texts: none may be longer
    c = good("mistral", ",\"sliding_window\":32");
    assert_true(c.positions == 32 && c.llama.window == 32);
    c = good("mistral", ",\"sliding_window\":4096");
    assert_true(c.positions == 128 && c.llama.window == 0);
    c = good("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":false");
    assert_true(c.positions == 128);
    c = good("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true");
    assert_true(c.positions == 32);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *type, *more, *part;
    } bad[] = {
        {"gemma", "", "\"model_type\" is \"gemma\"; only opt, llama, mistral, qwen2, qwen3 and gpt_neox"},
        {"llama", ",\"hidden_act\":\"swish2\"", "\"hidden_act\" is \"swish2\""},
        {"llama", ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2.0}", "\"rope_type\" is \"yarn\""},
        {"llama", ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}", "\"rope_type\" is \"dynamic\""},
        {"llama", ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}", "has no \"rope_type\""},
        {"llama", ",\"rope_scaling\":{\"rope_type\":\"linear\"}", "\"factor\" is missing"},
        {"llama", ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":-2}", "\"factor\" is -2"},
        {"llama",
         ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":2.0,\"low_freq_factor\":4.0,"
         "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}",
         "\"high_freq_factor\" 4 is not above"},
        {"llama", ",\"num_key_value_heads\":3", "no multiple of \"num_key_value_heads\" 3"},
        {"llama", ",\"head_dim\":7", "heads of 7 values"},
        {"llama", ",\"partial_rotary_factor\":0.5", "\"partial_rotary_factor\" is not 1"},
        {"llama", ",\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}",
         "\"partial_rotary_factor\" is not 1"},
        {"qwen2", ",\"layer_types\":\"full_attention\"", "\"layer_types\" is not a list"},
        {"gpt_neox", ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2.0}", "\"rope_type\" is \"yarn\""},
        {"gpt_neox", ",\"hidden_act\":\"quick_gelu\"", "\"hidden_act\" is \"quick_gelu\""},
        {"qwen2", ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]", "layer 1 is \"sliding_attention\""},
        {"llama", ",\"rms_norm_eps\":0", "\"rms_norm_eps\" is 0"},
        {"llama", ",\"rms_norm_eps\":\"small\"", "\"rms_norm_eps\" is not a number"},
        {"llama", ",\"eos_token_id\":[50]", "\"eos_token_id\" 50 is not below \"vocab_size\" 50"},
        {"llama", ",\"bos_token_id\":1.5", "\"bos_token_id\" is not a whole number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        model_config c;
        expect_error(parse(&c, bad[i].type, bad[i].more), bad[i].part);
    }
}

// What is written is read as the same configuration, every key that counts changes the hash, and a saved checkpoint is
// the one that it was made of, own head or tied.
static void saved_and_read(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "mistral", "qwen2", "qwen3", "relu", "biased"};
    char tmp[] = "/tmp/test_llama_files.XXXXXX", hash[6][33];
    assert_non_null(mkdtemp(tmp));
    for (int i = 0; i < 6; i++) {
        char *dir = xasprintf("tests/golden/llama/%s", names[i]);
        ckpt a, b;
        if (ckpt_open(&a, dir)) fail_msg("%s", err_get());
        memcpy(hash[i], ckpt_hash(&a), sizeof hash[i]);
        if (ckpt_save(tmp, &a.config, a.tensors, a.n_tensors)) fail_msg("%s", err_get());
        if (ckpt_open(&b, tmp)) fail_msg("%s", err_get());
        assert_string_equal(hash[i], ckpt_hash(&b));
        assert_int_equal(b.config.llama.rope.kind, a.config.llama.rope.kind);
        assert_int_equal(b.n_tensors, a.n_tensors);
        ckpt_close(&b);
        const double eps = a.config.llama.norm_eps;
        a.config.llama.norm_eps *= 1.001, *a.hash = 0;
        assert_string_not_equal(hash[i], ckpt_hash(&a));
        a.config.llama.norm_eps = eps, a.config.llama.rope.theta += 1, *a.hash = 0;
        assert_string_not_equal(hash[i], ckpt_hash(&a));
        ckpt_close(&a);
        free(dir);
    }
    static const char *const files[] = {"model.safetensors", "config.json"};
    for (int i = 0; i < 2; i++) {
        char *path = xasprintf("%s/%s", tmp, files[i]);
        unlink(path);
        free(path);
    }
    rmdir(tmp);
}

// A text that ends in digits at the end of a page, after which nothing may be read.
static void ends_in_digits(void **state) {
    (void)state;
    static const char text[] = "{\"model_type\":\"llama\",\"hidden_size\":32";
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = sizeof text - 1;
    char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(two, MAP_FAILED);
    assert_int_equal(mprotect(two + page, page, PROT_NONE), 0);
    memcpy(two + page - n, text, n);
    model_config c;
    expect_error(model_config_parse(two + page - n, n, "text", &c), "text: line 1: not valid JSON");
    munmap(two, 2 * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults),       cmocka_unit_test(neox),
                                       cmocka_unit_test(keys),           cmocka_unit_test(refusals),
                                       cmocka_unit_test(saved_and_read), cmocka_unit_test(ends_in_digits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
