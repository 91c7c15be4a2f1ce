// test_ckpt - checkpoints: every published form gives the values it was made of, and configs, tensors and shards that
// do not fit are refused by name. Good files come from tests/golden/make_ckpt.py (PyTorch); the damage is done here, to
// copies in a temporary folder. Damage within a file of tensors: test_tensor_files.
#include "model.h"
#include "refusal.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/golden/ckpt/"

static char tmp[] = "/tmp/test_ckpt.XXXXXX";

// ---------------------------------------------------------------- helpers
static void write_file(const char *name, const void *bytes, size_t n) {
    char *path = xasprintf("%s/%s", tmp, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void clear_tmp(void) {
    DIR *d = opendir(tmp);
    for (struct dirent *e; (e = readdir(d));) {
        char *path = xasprintf("%s/%s", tmp, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
        free(path);
    }
    closedir(d);
}

static void copy_to_tmp(const char *dir) {
    clear_tmp();
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        size_t n;
        char *path = xasprintf("%s/%s", dir, e->d_name), *bytes = file_read(path, &n);
        assert_non_null(bytes);
        write_file(e->d_name, bytes, n);
        free(bytes);
        free(path);
    }
    closedir(d);
}

static char *read_tmp(const char *name, size_t *n) {
    char *path = xasprintf("%s/%s", tmp, name), *bytes = file_read(path, n);
    assert_non_null(bytes);
    free(path);
    return bytes;
}

// Replaces `from` by `to` once in a text file of the temporary folder.
static void edit(const char *name, const char *from, const char *to) {
    size_t n;
    char *text = read_tmp(name, &n), *at = memmem(text, n, from, strlen(from));
    if (!at) fail_msg("%s holds no %s", name, from);
    size_t head = (size_t)(at - text), out = n - strlen(from) + strlen(to);
    char *edited = xmalloc(out);
    memcpy(edited, text, head);
    memcpy(edited + head, to, strlen(to));
    memcpy(edited + head + strlen(to), at + strlen(from), n - head - strlen(from));
    write_file(name, edited, out);
    free(edited);
    free(text);
}

// Same length: keeps every offset of a safetensors or zip file.
static void patch(const char *name, const char *from, const char *to) {
    assert_int_equal(strlen(from), strlen(to));
    edit(name, from, to);
}

static void expect_open_error(const char *part) {
    ckpt c;
    int bad = ckpt_open(&c, tmp);
    if (!bad) ckpt_close(&c);
    expect_error(bad, part);
}

static float as_float(const tensor *t, size_t i) {
    uint32_t u;
    float f;
    if (t->type == DT_F32) return ((const float *)t->data)[i];
    const uint16_t h = ((const uint16_t *)t->data)[i];
    if (t->type == DT_F16) {
        const int e = h >> 10 & 31, m = h & 1023;
        f = e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
        return h & 0x8000 ? -f : f;
    }
    u = (uint32_t)h << 16;
    memcpy(&f, &u, 4);
    return f;
}

// make_ckpt.py's formula.
static void check_tensor_values(const tensor *t) {
    int sum = 0;
    for (const char *p = t->name; *p; p++) sum += (unsigned char)*p;
    size_t n = tensor_bytes(t) / dtype_bytes(t->type);
    assert_int_equal((uintptr_t)t->data % dtype_bytes(t->type), 0);
    for (size_t i = 0; i < n; i++) {
        float want = (float)((sum + 7 * (int)i) % 61 - 30) / 16.0f;
        if (as_float(t, i) != want) fail_msg("%s[%zu] is %g, not %g", t->name, i, as_float(t, i), want);
    }
}

static void check_all_values(ckpt *c) {
    size_t bytes = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        check_tensor_values(&c->tensors[i]);
        bytes += tensor_bytes(&c->tensors[i]);
    }
    assert_int_equal(bytes, c->bytes);
    if (ckpt_check_values(c)) fail_msg("%s", err_get());
    assert_int_equal(strlen(ckpt_hash(c)), 32);
}

static void open_good(ckpt *c, const char *dir) {
    if (ckpt_open(c, dir)) fail_msg("%s", err_get());
}

// ---------------------------------------------------------------- the forms
static void forms(void **state) {
    (void)state;
    static const struct {
        const char *dir;
        int n, E, P;
        bool pre, final, bias;
        const char *types;
    } want[] = {
        {GOLDEN "st", 36, 6, 6, true, true, true, "0"},
        {GOLDEN "st_shards", 22, 6, 6, true, false, false, "2"},
        {GOLDEN "bin", 36, 6, 6, true, true, true, "1"},
        {GOLDEN "bin_shards", 36, 6, 6, true, true, true, "012"},
        {GOLDEN "bin_350m", 36, 6, 4, false, false, true, "1"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ckpt c;
        open_good(&c, want[i].dir);
        assert_int_equal(c.n_tensors, want[i].n);
        assert_int_equal(c.config.L, 2);
        assert_int_equal(c.config.H, 2);
        assert_int_equal(c.config.E, 6);
        assert_int_equal(c.config.D, 3);
        assert_int_equal(c.config.F, 10);
        assert_int_equal(c.config.V, 11);
        assert_int_equal(c.config.positions, 5);
        assert_int_equal(c.config.P, want[i].P);
        assert_int_equal(c.config.pre_ln, want[i].pre);
        assert_int_equal(c.config.final_ln, want[i].final);
        assert_int_equal(c.config.bias, want[i].bias);
        check_all_values(&c);
        for (const char *t = want[i].types; *t; t++) {
            int seen = 0;
            for (int k = 0; k < c.n_tensors; k++) seen += c.tensors[k].type == (dtype)(*t - '0');
            assert_true(seen > 0);
        }
        assert_null(ckpt_find(&c, "lm_head.weight"));
        assert_null(ckpt_find(&c, "version"));
        const tensor *t = ckpt_find(&c, "layers.1.fc1.weight");
        assert_non_null(t);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dim[0], 10);
        assert_int_equal(t->dim[1], 6);
        ckpt_close(&c);
        ckpt_close(&c);
    }
    ckpt zero = {0};
    ckpt_close(&zero);
}

// One space more in the header moves every tensor to an odd address.
static void unaligned(void **state) {
    (void)state;
    copy_to_tmp(GOLDEN "st");
    size_t n;
    char *bytes = read_tmp("model.safetensors", &n), *moved = xmalloc(n + 1);
    uint64_t header = 0;
    memcpy(&header, bytes, 8);
    memcpy(moved + 8, bytes + 8, header);
    moved[8 + header] = ' ';
    memcpy(moved + 9 + header, bytes + 8 + header, n - 8 - header);
    header++;
    memcpy(moved, &header, 8);
    write_file("model.safetensors", moved, n + 1);
    ckpt a, b;
    open_good(&a, tmp);
    check_all_values(&a);
    open_good(&b, GOLDEN "st");
    assert_string_equal(ckpt_hash(&a), ckpt_hash(&b));
    ckpt_close(&a);
    ckpt_close(&b);
    free(moved);
    free(bytes);
}

static void saving(void **state) {
    (void)state;
    static const char *const dirs[] = {GOLDEN "st", GOLDEN "st_shards", GOLDEN "bin", GOLDEN "bin_shards",
                                       GOLDEN "bin_350m"};
    for (int i = 0; i < 5; i++) {
        ckpt a, b;
        clear_tmp();
        open_good(&a, dirs[i]);
        if (ckpt_save(tmp, &a.config, a.tensors, a.n_tensors)) fail_msg("%s", err_get());
        open_good(&b, tmp);
        check_all_values(&b);
        assert_string_equal(ckpt_hash(&a), ckpt_hash(&b));
        ckpt_close(&b);
        expect_error(ckpt_save(tmp, &a.config, a.tensors, a.n_tensors - 1), "is missing");
        expect_error(ckpt_save("/dev/null/x", &a.config, a.tensors, a.n_tensors), "/dev/null/x");
        ckpt_close(&a);
    }
}

static void hashes(void **state) {
    (void)state;
    ckpt a, b;
    open_good(&a, GOLDEN "st");
    copy_to_tmp(GOLDEN "st");
    open_good(&b, tmp);
    assert_string_equal(ckpt_hash(&a), ckpt_hash(&b));  // not the place
    ckpt_close(&b);
    edit("config.json", "\"prefix\"", "\"suffix\"");
    open_good(&b, tmp);
    assert_string_equal(ckpt_hash(&a), ckpt_hash(&b));  // not keys that change nothing
    ckpt_close(&b);
    edit("config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3");
    open_good(&b, tmp);
    assert_string_not_equal(ckpt_hash(&a), ckpt_hash(&b));
    ckpt_close(&b);
    copy_to_tmp(GOLDEN "st");
    size_t n;
    char *bytes = read_tmp("model.safetensors", &n);
    bytes[n - 67 * 4 - 2] ^= 0x10;  // a weight before lm_head, the last tensor (11 x 6)
    write_file("model.safetensors", bytes, n);
    free(bytes);
    open_good(&b, tmp);
    assert_string_not_equal(ckpt_hash(&a), ckpt_hash(&b));
    ckpt_close(&b);
    ckpt_close(&a);
}

// ---------------------------------------------------------------- config.json
static void config_error(const char *from, const char *to, const char *part) {
    copy_to_tmp(GOLDEN "st");
    edit("config.json", from, to);
    expect_open_error(part);
}

static void bad_config(void **state) {
    (void)state;
    config_error("\"relu\"", "\"mish\"", "\"activation_function\" is \"mish\"");
    config_error("\"model_type\": \"opt\"", "\"model_type\": \"gpt2\"", "\"model_type\" is \"gpt2\"");
    config_error("\"model_type\": \"opt\",", "", "\"model_type\" is missing");
    config_error("\"hidden_size\": 6,", "", "\"hidden_size\" is missing");
    config_error("\"hidden_size\": 6", "\"hidden_size\": 6.0", "\"hidden_size\" is not a whole number");
    config_error("\"hidden_size\": 6", "\"hidden_size\": 7", "no multiple");
    config_error("\"hidden_size\": 6", "\"hidden_size\": -6", "outside");
    config_error("\"ffn_dim\": 10", "\"ffn_dim\": 99999999999", "outside");
    config_error("\"ffn_dim\": 10", "\"ffn_dim\": 99999999999999999999", "not a whole number");
    config_error("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "outside");
    config_error("\"bos_token_id\": 2", "\"bos_token_id\": 11", "special token");
    config_error("\"do_layer_norm_before\": true", "\"do_layer_norm_before\": 1", "neither true nor false");
    config_error("\"use_cache\": true", "\"layer_norm_elementwise_affine\": false", "has no place in the model");
    config_error("\"float16\"", "\"float64\"", "float64");
    config_error("\"use_cache\": true", "\"ffn_dim\": 9", "but config.json asks for [9]");  // of two, the last
    config_error("\"eos_token_id\": 2", "\"eos_token_id\": []", "a list of 0 ids");
    config_error("\"eos_token_id\": 2", "\"eos_token_id\": [2, \"3\"]", "entry 1 of its list is no id");
    config_error("\"eos_token_id\": 2", "\"eos_token_id\": [11, 2]", "special token");
    config_error("\"use_cache\": true", "\"tie_word_embeddings\": 0", "neither true nor false");
    config_error("}", "", "not valid JSON");
    copy_to_tmp(GOLDEN "st");
    write_file("config.json", "[1]", 3);
    expect_open_error("not a JSON object");
    write_file("config.json", "", 0);
    expect_open_error("not valid JSON");
    clear_tmp();
    expect_open_error("config.json: cannot open");
}

// Defaults of transformers' OPTConfig for keys that may be absent.
static void config_defaults(void **state) {
    (void)state;
    static const char text[] =
        "{\"model_type\":\"opt\",\"num_hidden_layers\":1,\"num_attention_heads\":4,\"hidden_size\":8,\"ffn_dim\":3,"
        "\"vocab_size\":7,\"max_position_embeddings\":9,\"dtype\":\"bfloat16\",\"pad_token_id\":null}";
    model_config c;
    assert_int_equal(model_config_parse(text, sizeof text - 1, "text", &c), 0);
    assert_true(c.pre_ln && c.final_ln && c.bias && c.tied);
    assert_int_equal(c.P, 8);
    assert_int_equal(c.bos, 2);
    assert_int_equal(c.eos, 2);
    assert_int_equal(c.pad, 1);
    assert_int_equal(c.declared, DT_BF16);
    assert_true(model_ends_text(&c, 2) && !model_ends_text(&c, 1));
}

// What Python's json module writes or reads, transformers with it: a byte-order mark, NaN, repeated keys, lists of ids.
static void config_of_python(void **state) {
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf{\"model_type\":\"opt\",\"num_hidden_layers\":1,\"num_attention_heads\":4,\"hidden_size\":4,"
        "\"hidden_size\":8,\"ffn_dim\":3,\"vocab_size\":7,\"max_position_embeddings\":9,\"init_std\":NaN,"
        "\"a \\\" NaN\":-Infinity,\"eos_token_id\":[6, 3],\"length\":1000000000000000019884624838656}";
    model_config c;
    if (model_config_parse(text, sizeof text - 1, "text", &c)) fail_msg("%s", err_get());
    assert_int_equal(c.E, 8);
    assert_int_equal(c.eos, 6);
    assert_int_equal(c.bos, 2);
    assert_true(model_ends_text(&c, 6) && model_ends_text(&c, 3) && !model_ends_text(&c, 2));
    assert_true(c.tokens.named[TOKEN_EOS] && !c.tokens.named[TOKEN_BOS]);
}

// ---------------------------------------------------------------- tensors against the config
static void bad_tensors(void **state) {
    (void)state;
    config_error("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "tensor layers.2.fc1.bias is missing");
    config_error("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "tensor layers.1.fc1.bias has no place");
    config_error("\"ffn_dim\": 10", "\"ffn_dim\": 9",
                 "tensor layers.0.fc1.bias has shape [10], but config.json asks for [9]");
    config_error("\"max_position_embeddings\": 5", "\"max_position_embeddings\": 6",
                 "tensor embed_positions.weight has shape [7, 6]");
    config_error("\"use_cache\": true", "\"enable_bias\": false", "has no place");
    config_error("\"word_embed_proj_dim\": 6", "\"word_embed_proj_dim\": 4", "embed_tokens.weight has shape");

    copy_to_tmp(GOLDEN "st");
    patch("model.safetensors", "model.decoder.layers.0.fc1.weight", "model.decoder.layers.0.fc9.weight");
    expect_open_error("tensor layers.0.fc1.weight is missing");
    patch("model.safetensors", "model.decoder.layers.0.fc9.weight", "model.decoder.layers.1.fc1.weight");
    expect_open_error("duplicate object key");
    patch("model.safetensors", "model.decoder.layers.1.fc1.weight", "decoder.layers.1.fc1.weight\\u0000");
    expect_open_error("not valid JSON");
    copy_to_tmp(GOLDEN "st");
    patch("model.safetensors", "model.decoder.layers.0.fc1.weight\":{\"d", "decoder.layers.1.fc1.weight\":{      \"d");
    expect_open_error("tensor layers.1.fc1.weight is there twice");
    copy_to_tmp(GOLDEN "st");
    patch("model.safetensors", "\"shape\":[10,6]", "\"shape\":[6,10]");
    expect_open_error("fc1.weight has shape [6, 10], but config.json asks for [10, 6]");

    copy_to_tmp(GOLDEN "st");  // lm_head is the last tensor
    size_t n;
    char *bytes = read_tmp("model.safetensors", &n);
    bytes[n - 1] ^= 1;
    write_file("model.safetensors", bytes, n);
    expect_open_error("lm_head.weight differs from embed_tokens.weight");
    free(bytes);
    copy_to_tmp(GOLDEN "st_shards");
    edit("config.json", "\"use_cache\"", "\"tie_word_embeddings\": false, \"use_cache\"");
    expect_open_error("there is no lm_head.weight");

    copy_to_tmp(GOLDEN "st");
    char *path = xasprintf("%s/model.safetensors", tmp);
    unlink(path);
    free(path);
    expect_open_error("no weights");
    write_file("model.safetensors", "", 0);
    expect_open_error("not a file with content");
}

// A model that is not tied has the head of the file: with twice the embedding the logits are twice those of the tied
// one.
static void own_head(void **state) {
    (void)state;
    static const int32_t tokens[] = {2, 7, 4, 9};
    float logits[2][11];
    copy_to_tmp(GOLDEN "st");
    edit("config.json", "\"use_cache\"", "\"tie_word_embeddings\": false, \"use_cache\"");
    size_t n;
    char *bytes = read_tmp("model.safetensors", &n);
    for (size_t i = n - 66 * 4; i < n; i += 4) {
        float x;
        memcpy(&x, bytes + i, 4);
        x *= 2;
        memcpy(bytes + i, &x, 4);
    }
    write_file("model.safetensors", bytes, n);
    free(bytes);
    for (int k = 0; k < 2; k++) {
        model m;
        if (model_load(&m, k ? tmp : GOLDEN "st")) fail_msg("%s", err_get());
        assert_int_equal(m.arch.tied, !k);
        model_run *run = model_run_new(&m, 4, 1, 0);
        const model_seq s = {.tokens = tokens, .n = 4};
        model_forward(run, &s, 1);
        model_logits(run, 0, logits[k]);
        model_run_free(run);
        model_free(&m);
    }
    for (int i = 0; i < 11; i++) assert_true(fabsf(logits[1][i] - 2 * logits[0][i]) <= 1e-5f * fabsf(logits[1][i]));
    ckpt a, b;
    open_good(&a, tmp);
    assert_int_equal(a.n_tensors, 37);
    char hash[33];
    memcpy(hash, ckpt_hash(&a), sizeof hash);
    if (ckpt_save(tmp, &a.config, a.tensors, a.n_tensors)) fail_msg("%s", err_get());
    ckpt_close(&a);
    open_good(&b, tmp);
    assert_string_equal(ckpt_hash(&b), hash);
    ckpt_close(&b);
}

static void not_finite(void **state) {
    (void)state;
    static const struct {
        const char *dir, *file;
        size_t from_end;
        int bytes;
        const char *value;
    } cases[] = {
        {GOLDEN "st", "model.safetensors", 68 * 4, 4, "\x00\x00\xc0\x7f"},           // NaN
        {GOLDEN "st", "model.safetensors", 67 * 4, 4, "\x00\x00\x80\xff"},           // -inf
        {GOLDEN "st_shards", "model-00002-of-00002.safetensors", 2, 2, "\x80\x7f"},  // inf
        {GOLDEN "st_shards", "model-00001-of-00002.safetensors", 2, 2, "\xc1\xff"},  // NaN
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        ckpt c;
        copy_to_tmp(cases[i].dir);
        char *bytes = read_tmp(cases[i].file, &n);
        memcpy(bytes + n - cases[i].from_end, cases[i].value, (size_t)cases[i].bytes);
        write_file(cases[i].file, bytes, n);
        free(bytes);
        open_good(&c, tmp);
        expect_error(ckpt_check_values(&c), "holds NaN or infinity at element");
        ckpt_close(&c);
    }
    // fp16, in memory that looks like a checkpoint of one tensor
    uint16_t half[3] = {0x7bff, 0xfbff, 0x03ff};  // the largest, its negative, a subnormal
    tensor t = {.name = (char *)"x", .type = DT_F16, .rank = 1, .dim = {3}, .data = half};
    ckpt c = {.tensors = &t, .n_tensors = 1};
    assert_int_equal(ckpt_check_values(&c), 0);
    half[2] = 0x7c00;
    expect_error(ckpt_check_values(&c), "tensor x holds NaN or infinity at element 2");
}

// ---------------------------------------------------------------- shards
static void bad_shards(void **state) {
    (void)state;
    static const char index[] = "model.safetensors.index.json", first[] = "model-00001-of-00002.safetensors";
    copy_to_tmp(GOLDEN "st_shards");
    char *path = xasprintf("%s/%s", tmp, first);
    unlink(path);
    free(path);
    expect_open_error("model-00001-of-00002.safetensors: missing, though");
    copy_to_tmp(GOLDEN "st_shards");
    edit(index, "00001-of-00002", "00002-of-00002");
    expect_open_error("model-00002-of-00002.safetensors: tensor decoder.embed_tokens.weight is not there");
    copy_to_tmp(GOLDEN "st_shards");
    edit(index, "\"model-00001-of-00002.safetensors\"", "\"../model-00001-of-00002.safetensors\"");
    expect_open_error("not the name of a file beside it");
    copy_to_tmp(GOLDEN "st_shards");
    edit(index, "\"model-00001-of-00002.safetensors\"", "7");
    expect_open_error("its file is not a text");
    copy_to_tmp(GOLDEN "st_shards");
    edit(index, "weight_map", "weight_mop");
    expect_open_error("\"weight_map\" is missing");
    edit(index, "{", "[");
    expect_open_error("not valid JSON");
    copy_to_tmp(GOLDEN "bin_shards");
    edit("pytorch_model.bin.index.json", "00001-of-00002", "00003-of-00002");
    expect_open_error("pytorch_model-00003-of-00002.bin: missing");
}

// ---------------------------------------------------------------- published models, where they are at hand
static void shared_models(void **state) {
    (void)state;
    static const char *const dirs[] = {"../shared/models/opt-en-8m", "../shared/models/opt-en-8m-bin",
                                       "../shared/models/opt-en-8m-sharded-bf16"};
    if (!file_exists(dirs[0])) {
        print_message("SKIP ../shared/models is not there: the published models are not compared\n");
        skip();
    }
    ckpt c[3];
    for (int i = 0; i < 3; i++) {
        open_good(&c[i], dirs[i]);
        if (ckpt_check_values(&c[i])) fail_msg("%s", err_get());
        assert_int_equal(c[i].n_tensors, 132);
    }
    assert_string_equal(c[0].hash, c[1].hash);
    for (int i = 0; i < 132; i++) {
        const tensor *half = &c[0].tensors[i], *brain = &c[2].tensors[i];
        assert_string_equal(half->name, brain->name);
        for (size_t k = 0; k < tensor_bytes(half) / 2; k++) {
            float x = as_float(half, k), y = as_float(brain, k);  // each within half an ulp of one fp32 value
            if (fabsf(x - y) > fabsf(x) * (0x1p-8f + 0x1p-11f) + 0x1p-25f)
                fail_msg("%s[%zu]: %g and %g", half->name, k, x, y);
        }
    }
    for (int i = 0; i < 3; i++) ckpt_close(&c[i]);
}

static int remove_tmp(void **state) {
    (void)state;
    clear_tmp();
    return rmdir(tmp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),         cmocka_unit_test(unaligned),        cmocka_unit_test(saving),
        cmocka_unit_test(hashes),        cmocka_unit_test(bad_config),       cmocka_unit_test(config_defaults),
        cmocka_unit_test(bad_tensors),   cmocka_unit_test(not_finite),       cmocka_unit_test(bad_shards),
        cmocka_unit_test(shared_models), cmocka_unit_test(config_of_python), cmocka_unit_test(own_head),
    };
    if (!mkdtemp(tmp)) return 1;
    return cmocka_run_group_tests(tests, NULL, remove_tmp);
}
