// test_gguf - GGUF files of llama.cpp's own writer (golden/make_gguf.py): blocks of every type against gguf.quants,
// tiny models of three architectures with every value in place and rows of q and k moved back, tokenizers against the
// `tokenizers` library; counts, offsets and texts that lie are refused by name.
#include "gguf.h"
#include "tok_fixture.h"
#include <jansson.h>
#include <math.h>

#define GGUF_GOLDEN "tests/golden/gguf/"

static char *read_golden(const char *name, size_t *n) {
    char *path = xasprintf(GGUF_GOLDEN "%s.gguf", name), *bytes = file_read(path, n);
    assert_non_null(bytes);
    free(path);
    return bytes;
}

static void open_golden(gguf *g, const char *bytes, size_t n) {
    if (gguf_parse(g, (const uint8_t *)bytes, n, "file")) fail_msg("%s", err_get());
}

// ---------------------------------------------------------------- numbers
static const gguf_tensor *tensor_of(const gguf *g, const char *name) {
    for (int i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return &g->tensors[i];
    return NULL;
}

static void blocks(void **state) {
    (void)state;
    static const char *const types[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"};
    size_t size;
    char *bytes = read_golden("blocks", &size);
    gguf g;
    open_golden(&g, bytes, size);
    for (int k = 0; k < 8; k++) {
        char *want_name = xasprintf("%s.want", types[k]);
        const gguf_tensor *t = tensor_of(&g, types[k]), *want = tensor_of(&g, want_name);
        free(want_name);
        assert_true(t && want && t->dim[0] == want->dim[0] && t->dim[1] == 3 && want->dim[1] == 3);
        const size_t n = 3 * (size_t)t->dim[0];
        float *made = xmalloc(n * sizeof *made), x;
        gguf_widen(made, t->data, t->type, n);
        for (size_t i = 0; i < n; i++) {
            memcpy(&x, want->data + 4 * i, 4);
            if (made[i] != x) fail_msg("%s[%zu] is %.9g, not %.9g", types[k], i, made[i], x);
        }
        free(made);
    }
    gguf_free(&g);
    free(bytes);
    // the corners of fp16 and bf16
    static const uint8_t halves[] = {0x00, 0x3c, 0x01, 0x00, 0xff, 0x7b, 0x00, 0xfc}, brain[] = {0x80, 0xbf};
    float y[4];
    gguf_widen(y, halves, 1, 4);
    assert_true(y[0] == 1 && y[1] == 0x1p-24f && y[2] == 65504 && isinf(y[3]) && y[3] < 0);
    gguf_widen(y, brain, 30, 1);
    assert_true(y[0] == -1);
}

// A scale or minimum of any block that is NaN or infinite is found in that block and in no other: in types that are
// read in place by gguf_bad_block, in the others by their numbers, none of which is finite. The places of the fp16
// fields are those of ggml's structs.
static void damaged_scales(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int numbers, bytes, field[2];  // -1: no second one
        bool in_place;
        dtype type;
    } types[] = {{"q4_0", 32, 18, {0, -1}, true, DT_Q4_0}, {"q4_1", 32, 20, {0, 2}, true, DT_Q4_1},
                 {"q8_0", 32, 34, {0, -1}, true, DT_Q8_0}, {"q4_k", 256, 144, {0, 2}, true, DT_Q4_K},
                 {"q5_0", 32, 22, {0, -1}, false, 0},      {"q5_1", 32, 24, {0, 2}, false, 0},
                 {"q5_k", 256, 176, {0, 2}, false, 0},     {"q6_k", 256, 210, {208, -1}, false, 0}};
    static const uint8_t lies[][2] = {{0x00, 0x7c}, {0x00, 0xfc}, {0x01, 0x7c}, {0xff, 0xff}};  // inf, -inf, two NaN
    size_t size;
    char *bytes = read_golden("blocks", &size);
    gguf g;
    open_golden(&g, bytes, size);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        const gguf_tensor *t = tensor_of(&g, types[k].name);
        const size_t n = 3 * (size_t)t->dim[0], blocks = n / (size_t)types[k].numbers;
        uint8_t *data = (uint8_t *)(uintptr_t)t->data;
        float *made = xmalloc(n * sizeof *made);
        if (types[k].in_place) assert_int_equal(gguf_bad_block(data, types[k].type, n), blocks);
        for (size_t b = 0; b < blocks; b++)
            for (size_t lie = 0; lie < sizeof lies / sizeof *lies; lie++)
                for (int f = 0; f < 2 && types[k].field[f] >= 0; f++) {
                    uint8_t *at = data + b * (size_t)types[k].bytes + types[k].field[f], was[2];
                    memcpy(was, at, 2);
                    memcpy(at, lies[lie], 2);
                    if (types[k].in_place) assert_int_equal(gguf_bad_block(data, types[k].type, n), b);
                    gguf_widen(made, data, t->type, n);
                    for (size_t i = 0; i < n; i++)
                        if (isfinite(made[i]) != (i / (size_t)types[k].numbers != b))
                            fail_msg("%s: block %zu is damaged, number %zu is %g", types[k].name, b, i,
                                     (double)made[i]);
                    memcpy(at, was, 2);
                }
        free(made);
    }
    gguf_free(&g);
    free(bytes);
}

// ---------------------------------------------------------------- models
static float value_at(const tensor *t, size_t i) {
    float x;
    gguf_widen(&x, (const uint8_t *)t->data + i * dtype_bytes(t->type), (const int[]){0, 1, 30}[t->type], 1);
    return x;
}

static void check_values(const ckpt *c) {
    for (int k = 0; k < c->n_tensors; k++) {
        const tensor *t = &c->tensors[k];
        int sum = 0;
        for (const char *p = t->name; *p; p++) sum += (unsigned char)*p;
        const size_t n = tensor_bytes(t) / dtype_bytes(t->type);
        for (size_t i = 0; i < n; i++) {
            const float want = (float)((sum + 7 * (int)i) % 61 - 30) / 16;
            if (value_at(t, i) != want) fail_msg("%s[%zu] is %g, not %g", t->name, i, value_at(t, i), want);
        }
    }
}

static void architectures(void **state) {
    (void)state;
    static const struct {
        const char *name;
        model_type type;
        int n, D, V, bos, eos;
        bool tied, bias, norms;
        rope_kind rope;
    } want[] = {{"llama", MODEL_LLAMA, 21, 8, 519, 1, 2, false, false, false, ROPE_LLAMA3},
                {"qwen2", MODEL_QWEN2, 26, 8, 504, -1, 502, true, true, false, ROPE_DEFAULT},
                {"qwen3", MODEL_QWEN3, 24, 16, 503, 501, 502, true, false, true, ROPE_DEFAULT}};
    for (int k = 0; k < 3; k++) {
        ckpt c;
        char *path = xasprintf(GGUF_GOLDEN "%s.gguf", want[k].name);
        if (ckpt_open(&c, path)) fail_msg("%s", err_get());
        free(path);
        const model_config *m = &c.config;
        assert_int_equal(m->type, want[k].type);
        assert_int_equal(c.n_tensors, want[k].n);
        assert_int_equal(m->L, 2);
        assert_int_equal(m->H, 4);
        assert_int_equal(m->llama.K, 2);
        assert_int_equal(m->D, want[k].D);
        assert_int_equal(m->E, 32);
        assert_int_equal(m->F, 24);
        assert_int_equal(m->V, want[k].V);
        assert_int_equal(m->positions, 48);
        assert_int_equal(m->bos, want[k].bos);
        assert_int_equal(m->eos, want[k].eos);
        assert_int_equal(m->tied, want[k].tied);
        assert_int_equal(m->llama.bias_qkv, want[k].bias);
        assert_int_equal(m->llama.qk_norm, want[k].norms);
        assert_int_equal(m->llama.rope.kind, want[k].rope);
        assert_true(m->llama.rope.theta == 50000 && fabs(m->llama.norm_eps - 1e-5) < 1e-12);
        if (want[k].rope == ROPE_LLAMA3) assert_true(m->llama.rope.factor == 8 && m->llama.rope.old == 8192);
        check_values(&c);
        assert_int_equal(ckpt_check_values(&c), 0);
        ckpt_close(&c);
    }
}

// ---------------------------------------------------------------- tokenizers
static void check_folder(const char *path, const char *ids_file) {
    json_error_t why;
    json_t *all = json_load_file("tests/golden/tok_json/strings.json", JSON_ALLOW_NUL, &why), *s;
    char *want = file_read(ids_file, NULL), *at = want;
    tok *t = tok_open(path, 0);
    size_t k;
    if (!t) fail_msg("%s", err_get());
    json_array_foreach(all, k, s) {
        ids x = encode(t, json_string_value(s), json_string_length(s));
        int n = 0;
        for (; *at != '\n'; at += *at == ' ', n++) {
            const long id = strtol(at, &at, 10);
            if (n >= x.n || x.id[n] != id) fail_msg("%s: string %zu: id %d is not %ld", path, k, n, id);
        }
        at++;
        assert_int_equal(n, x.n);
        free(x.id);
    }
    assert_int_equal(*at, 0);
    tok_close(t);
    json_decref(all);
    free(want);
}

static void check_ids(const char *name, const char *ids_file) {
    char *path = xasprintf(GGUF_GOLDEN "%s.gguf", name);
    check_folder(path, ids_file);
    free(path);
}

static void tokenizers(void **state) {
    (void)state;
    check_ids("gpt2", "tests/golden/tok_json/gpt2.ids");
    check_ids("llama3", "tests/golden/tok_json/llama3.ids");
    check_ids("qwen2", "tests/golden/tok_json/qwen2.ids");
    check_ids("qwen3", "tests/golden/tok_json/smollm2.ids");
    check_ids("llama", GGUF_GOLDEN "llama.ids");
    tok *t = open_or_fail(GGUF_GOLDEN "llama.gguf");
    assert_int_equal(tok_bos(t), 1);
    assert_int_equal(tok_begin(t), 1);
    tok_close(t);
    t = open_or_fail(GGUF_GOLDEN "qwen2.gguf");
    assert_int_equal(tok_bos(t), -1);
    assert_int_equal(tok_begin(t), -1);
    assert_int_equal(tok_eos(t), tok_id(t, "<|im_end|>"));
    tok_close(t);
    // of two added tokens that begin alike the longer one is found, whatever their order in the file
    t = open_or_fail("tests/golden/fuzz/gpt2.gguf");
    ids x = encode(t, "<a><b><a>", 9);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.id[0], tok_id(t, "<a><b>"));
    assert_int_equal(x.id[1], tok_id(t, "<a>"));
    assert_true(x.id[1] < x.id[0]);
    free(x.id);
    tok_close(t);
}

// What prune writes of it is read as the same tokenizer.
static void exported(void **state) {
    (void)state;
    static const char *const names[][2] = {{"gpt2", "tests/golden/tok_json/gpt2.ids"},
                                           {"llama3", "tests/golden/tok_json/llama3.ids"},
                                           {"qwen2", "tests/golden/tok_json/qwen2.ids"},
                                           {"qwen3", "tests/golden/tok_json/smollm2.ids"},
                                           {"llama", GGUF_GOLDEN "llama.ids"}};
    for (int k = 0; k < 5; k++) {
        char dir[32], *file = xasprintf(GGUF_GOLDEN "%s.gguf", names[k][0]);
        scratch_dir(dir);
        if (gguf_export_tok(file, dir)) fail_msg("%s", err_get());
        check_folder(dir, names[k][1]);
        tok *a = open_or_fail(file), *b = open_or_fail(dir);
        assert_int_equal(tok_bos(a), tok_bos(b));
        assert_int_equal(tok_eos(a), tok_eos(b));
        assert_int_equal(tok_begin(a), tok_begin(b));
        tok_close(a);
        tok_close(b);
        for (int i = 0; i < 2; i++) {
            char *path = xasprintf("%s/%s", dir, i ? "tokenizer_config.json" : "tokenizer.json");
            assert_int_equal(unlink(path), 0);
            free(path);
        }
        assert_int_equal(rmdir(dir), 0);
        free(file);
    }
}

// ---------------------------------------------------------------- refusals
// 0: configuration, tensors and tokenizer are read.
static int load(const uint8_t *bytes, size_t n) {
    model_config c = {0};
    tensor *t;
    gguf g;
    int n_tensors;
    if (gguf_load(bytes, n, "file", &c, &t, &n_tensors)) return -1;
    tensors_free(t, n_tensors);
    model_config_free(&c);
    if (gguf_parse(&g, bytes, n, "file")) return -1;
    tok *k = gguf_tok(&g, 0);
    gguf_free(&g);
    tok_close(k);
    return k ? 0 : -1;
}

static model_config config_of(const uint8_t *bytes, size_t n) {
    model_config c = {0};
    tensor *t;
    int n_tensors;
    if (gguf_load(bytes, n, "file", &c, &t, &n_tensors)) fail_msg("%s", err_get());
    tensors_free(t, n_tensors);
    return c;
}

// The file with what follows the first `from` (n_from bytes) at distance `skip` replaced.
static void lie(const char *name, const char *after, size_t skip, const void *to, size_t n_to, const char *says) {
    size_t size;
    char *bytes = read_golden(name, &size), *at = memmem(bytes, size, after, strlen(after));
    if (!at) fail_msg("%s holds no %s", name, after);
    memcpy(at + strlen(after) + skip, to, n_to);
    expect_error(load((const uint8_t *)bytes, size), says);
    free(bytes);
}
#define NUMBER(x)                                                                                                      \
    (const uint32_t[]) { x, 0 }

static void refusals(void **state) {
    (void)state;
    static const uint64_t huge = UINT64_MAX, far = 1 << 20, odd = 33;
    static const float not_a_number = NAN, infinite = INFINITY;
    lie("llama", "GGU", 0, "X", 1, "no GGUF file");
    lie("llama", "GGUF", 0, NUMBER(1), 4, "GGUF of version 1; 2 and 3");
    lie("llama", "GGUF", 0, (const uint8_t[]){0, 0, 0, 3}, 4, "GGUF of version 50331648");
    lie("llama", "GGUF", 4, &huge, 8, "do not fit its");
    lie("llama", "GGUF", 12, &huge, 8, "do not fit its");
    lie("llama", "general.architecture", 0, NUMBER(99), 4, "has type 99");
    lie("llama", "general.architecture", 4, &huge, 8, "ends within its metadata");
    lie("llama", "general.architecture", 12, "bloom", 5, "architecture \"bloom\" is not implemented; llama");
    lie("llama", "llama.block_coun", 0, "T", 1, "metadata \"llama.block_count\" is missing");
    lie("llama", "llama.block_count", 4, NUMBER(0), 4, "metadata \"llama.block_count\" is 0, outside");
    lie("llama", "llama.attention.head_count_kv", 4, NUMBER(3), 4, "is no multiple of \"num_key_value_heads\" 3");
    lie("llama", "tokenizer.ggml.model", 12, "lamma", 5, "tokenizer \"lamma\" is not implemented");
    lie("qwen2", "tokenizer.ggml.pre", 12, "qwenX", 5, "pre-tokenizer \"qwenX\" is not implemented; gpt-2");
    lie("qwen2", "tokenizer.ggml.merges", 8, &huge, 8, "which is not implemented");
    lie("qwen2", "tokenizer.ggml.merges", 8, NUMBER(3), 8, "");  // a list that is cut
    lie("llama", "tokenizer.ggml.scores", 4, NUMBER(5), 4, "\"tokenizer.ggml.scores\" is missing, or no array");
    lie("qwen2", "<|im_en", 0, "\xff", 1, "token 502 is looked for in texts, but is no UTF-8");
    lie("llama", "\xe2\x96", 0, "\xff", 1, " is looked for in texts, but is no UTF-8");  // of any type
    lie("llama", "tokenizer.ggml.scores", 16, &not_a_number, 4, "token 0 has a score of NaN");
    lie("llama", "tokenizer.ggml.token_type", 16, NUMBER(99), 4, "token 0 is of type 99, which GGUF does not know");
    lie("llama", "layer_norm_rms_epsilon", 4, &not_a_number, 4, "layer_norm_rms_epsilon\" is NaN or infinite");
    lie("llama", "layer_norm_rms_epsilo", 0, "x", 1, "no attention.layer_norm_rms_epsilon");
    lie("llama", "llama.rope.freq_base", 4, &infinite, 4, "\"llama.rope.freq_base\" is NaN or infinite");
    lie("llama", "blk.0.attn_q.weight", 0, NUMBER(9), 4, "has 9 dimensions");
    lie("llama", "blk.0.attn_q.weight", 4, &far, 8, "blk.0.attn_q.weight lies outside the file's");
    lie("llama", "blk.0.attn_q.weight", 4, &huge, 8, "has a side of 18446744073709551615");
    lie("llama", "blk.0.attn_q.weight", 20, NUMBER(16), 4, "quantised as type 16, which is not implemented");
    lie("llama", "blk.0.attn_q.weight", 20, NUMBER(12), 4, "no multiple of the 256 of a Q4_K block");
    lie("llama", "blk.0.attn_q.weight", 24, &huge, 8, "no multiple of the alignment");
    lie("llama", "blk.0.attn_q.weight", 24, &odd, 8, "no multiple of the alignment 32");
    lie("llama", "blk.0.attn_q.weight", 24, NUMBER(0), 8, "overlap");
}

// The file with one more entry of its metadata, and a filler by which data stay aligned. Caller frees.
static uint8_t *with_entry(const char *name, const char *key, uint32_t type, const void *value, size_t n,
                           size_t *size) {
    const uint64_t n_key = strlen(key), one = 1, fill = (32 - (12 + n_key + n + 21) % 32) % 32;
    const uint32_t text = 8;
    char *old = read_golden(name, size), *made = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&made, &bytes);
    uint64_t entries;
    memcpy(&entries, old + 16, 8);
    entries += 2;
    fwrite(old, 1, 16, f), fwrite(&entries, 8, 1, f);
    fwrite(&n_key, 8, 1, f), fwrite(key, 1, n_key, f), fwrite(&type, 4, 1, f), fwrite(value, 1, n, f);
    fwrite(&one, 8, 1, f), fputc('x', f), fwrite(&text, 4, 1, f), fwrite(&fill, 8, 1, f);
    for (uint64_t i = 0; i < fill; i++) fputc('x', f);
    fwrite(old + 24, 1, *size - 24, f);
    fclose(f);
    free(old);
    *size = bytes;
    return (uint8_t *)made;
}

static void more_metadata(void **state) {
    (void)state;
    enum { U8 = 0, U32 = 4, F32 = 6, TEXT = 8 };
    static const float four = 4;
    const struct {
        const char *key, *says;
        uint32_t type;
        const void *value;
        size_t n;
    } bad[] = {
        {"general.alignment", "\"general.alignment\" is 0, outside 1..", U32, NUMBER(0), 4},
        {"general.alignment", "\"general.alignment\" is no whole number", F32, &four, 4},
        {"llama.rope.scaling.type", "\"llama.rope.scaling.type\" is no text", U32, NUMBER(2), 4},
        {"llama.rope.scaling.type", "rope scaling \"yarn\" together", TEXT, "\4\0\0\0\0\0\0\0yarn", 12},
        {"llama.rope.scaling.factor", "rope scaling \"linear\" together with rope_freqs.weight", F32, &four, 4},
        {"llama.rope.dimension_count", "is 4, but keys have 8 values", U32, NUMBER(4), 4},
        {"llama.attention.value_length", "is 16, but keys have 8 values", U32, NUMBER(16), 4},
        {"llama.expert_count", "a mixture of 8 experts is not implemented", U32, NUMBER(8), 4},
        {"tokenizer.ggml.add_space_prefix", "is neither true nor false", U8, NUMBER(1), 1},
    };
    size_t size;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t *file = with_entry("llama", bad[i].key, bad[i].type, bad[i].value, bad[i].n, &size);
        expect_error(load(file, size), bad[i].says);
        free(file);
    }
    static const char *const scaling[] = {"qwen2.rope.scaling.factor", "qwen2.rope.scale_linear"};
    for (int i = 0; i < 2; i++) {
        uint8_t *file = with_entry("qwen2", scaling[i], F32, &four, 4, &size);
        const model_config c = config_of(file, size);
        assert_true(c.llama.rope.kind == ROPE_LINEAR && c.llama.rope.factor == 4 && c.positions == 48);
        free(file);
    }
    uint8_t *file = (uint8_t *)read_golden("keys", &size);
    const model_config c = config_of(file, size);  // the window bounds the texts
    assert_true(c.positions == 40 && c.H == 4 && c.llama.K == 4 && c.D == 8 && c.tied);
    assert_true(c.llama.rope.kind == ROPE_LINEAR && c.llama.rope.factor == 2 && c.llama.rope.theta == 500);
    free(file);
}

// One of several files: no tensors, metadata split.count 2.
static void parts(void **state) {
    (void)state;
    static const uint8_t file[] = "GGUF\3\0\0\0"
                                  "\0\0\0\0\0\0\0\0"
                                  "\1\0\0\0\0\0\0\0"
                                  "\13\0\0\0\0\0\0\0split.count"
                                  "\2\0\0\0\2\0";
    expect_error(load(file, sizeof file - 1), "one of 2 parts; join them");
}

// A file cut anywhere in its metadata is refused; one that is cut in its data too.
static void truncated(void **state) {
    (void)state;
    size_t size;
    char *bytes = read_golden("qwen3", &size);
    for (size_t cut = 0; cut < size; cut += cut < 400 ? 1 : 997) {
        uint8_t *part = xmalloc(cut);
        memcpy(part, bytes, cut);
        if (load(part, cut) == 0) fail_msg("cut to %zu bytes it is accepted", cut);
        free(part);
    }
    free(bytes);
}

static void folders(void **state) {
    (void)state;
    char dir[32];
    scratch_dir(dir);
    char *target = realpath(GGUF_GOLDEN "qwen3.gguf", NULL), *one = xasprintf("%s/a.gguf", dir),
         *two = xasprintf("%s/b.gguf", dir);
    assert_int_equal(symlink(target, one), 0);
    ckpt c;
    if (ckpt_open(&c, dir)) fail_msg("%s", err_get());
    ckpt_close(&c);
    tok_close(open_or_fail(dir));
    assert_int_equal(symlink(target, two), 0);
    expect_error(ckpt_open(&c, dir), "several GGUF files, such as");
    unlink(one);
    unlink(two);
    free(one);
    free(two);
    free(target);
    assert_int_equal(rmdir(dir), 0);
    expect_error(ckpt_open(&c, "README.md"), "README.md: no GGUF file");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks),        cmocka_unit_test(damaged_scales),
                                       cmocka_unit_test(architectures), cmocka_unit_test(tokenizers),
                                       cmocka_unit_test(exported),      cmocka_unit_test(refusals),
                                       cmocka_unit_test(more_metadata), cmocka_unit_test(parts),
                                       cmocka_unit_test(truncated),     cmocka_unit_test(folders)};
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
