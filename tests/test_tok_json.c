// test_tok_json - tokenizer.json: the ids of the `tokenizers` library (golden/make_tok_json.py) in the forms of GPT-2,
// Llama-3, Qwen2, SmolLM2 and Llama-2; texts there and back; what is not implemented or does not belong together is
// refused by name. `test_tok_json FOLDER STRINGS.json` prints the ids of a list of strings (test_tok_library).
#include "tok_fixture.h"
#include <jansson.h>

#define JSON_GOLDEN "tests/golden/tok_json"
static const char *const forms[] = {"gpt2", "llama3", "qwen2", "smollm2", "llama2"};
enum { N_FORMS = 5 };

static char *text_of_form(int k, size_t *n) {
    char *path = xasprintf(JSON_GOLDEN "/%s.json", forms[k]), *text = file_read(path, n);
    assert_non_null(text);
    free(path);
    return text;
}

static tok *parse(const char *json, int rows) {
    char dir[32];
    scratch_dir(dir);
    char *path = xasprintf("%s/tokenizer.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(json, f);
    fclose(f);
    tok *t = tok_open(dir, rows);
    unlink(path);
    free(path);
    assert_int_equal(rmdir(dir), 0);
    return t;
}

static tok *form(int k) {
    char *json = text_of_form(k, NULL);
    tok *t = parse(json, 0);
    if (!t) fail_msg("%s", err_get());
    free(json);
    return t;
}

// ---------------------------------------------------------------- against the library
static void library_ids(void **state) {
    (void)state;
    json_error_t why;
    json_t *all = json_load_file(JSON_GOLDEN "/strings.json", JSON_ALLOW_NUL, &why), *s;
    assert_true(json_array_size(all) >= 300);
    for (int k = 0; k < N_FORMS; k++) {
        char *path = xasprintf(JSON_GOLDEN "/%s.ids", forms[k]), *want = file_read(path, NULL), *at = want;
        tok *t = form(k);
        size_t i;
        int wrong = 0;
        json_array_foreach(all, i, s) {
            ids x = encode(t, json_string_value(s), json_string_length(s));
            bool same = true;
            int n = 0;
            for (; *at != '\n'; at += *at == ' ', n++) {
                long id = strtol(at, &at, 10);
                same = same && n < x.n && x.id[n] == id;
            }
            at++;
            if (!same || n != x.n) {
                print_message("%s: string %zu \"%.40s\": other ids\n", forms[k], i, json_string_value(s));
                wrong++;
            }
            free(x.id);
        }
        assert_int_equal(*at, 0);
        assert_int_equal(wrong, 0);
        free(want);
        free(path);
        tok_close(t);
    }
    json_decref(all);
}

static void there_and_back(void **state) {
    (void)state;
    static const char *const texts[] = {"The sun rose.", "  two  spaces ", "caf\xc3\xa9 \xe6\x97\xa5\n\n12",
                                        "a\xff\xfe"
                                        "b \xc3"};
    for (int k = 0; k < N_FORMS; k++) {
        tok *t = form(k);
        for (int i = 0; i < 4; i++) {
            ids x = encode(t, texts[i], strlen(texts[i]));
            char *back = tok_decode(t, x.id, x.n);
            assert_string_equal(back, texts[i]);
            free(back);
            free(x.id);
        }
        tok_close(t);
    }
}

static void names_and_begin(void **state) {
    (void)state;
    static const char *const begins[N_FORMS] = {NULL, "<|begin_of_text|>", NULL, NULL, "<s>"};
    for (int k = 0; k < N_FORMS; k++) {
        tok *t = form(k);
        assert_int_equal(tok_begin(t), begins[k] ? tok_id(t, begins[k]) : -1);
        assert_int_equal(tok_bos(t), -1);  // a name that tokenizer_config.json gives, which is not there
        tok_close(t);
    }
    char dir[32];
    scratch_dir(dir);
    size_t n;
    char *json = text_of_form(2, &n),
         *path[2] = {xasprintf("%s/tokenizer.json", dir), xasprintf("%s/tokenizer_config.json", dir)};
    FILE *f = fopen(path[0], "w");
    fwrite(json, 1, n, f);
    fclose(f);
    f = fopen(path[1], "w");
    fputs("{\"bos_token\": null, \"eos_token\": {\"content\": \"<|im_end|>\"}, \"model_max_length\": "
          "1000000000000000019884624838656}",
          f);
    fclose(f);
    tok *t = open_or_fail(dir);
    assert_int_equal(tok_bos(t), -1);
    assert_int_equal(tok_eos(t), tok_id(t, "<|im_end|>"));
    assert_true(tok_eos(t) > 0);
    tok_close(t);
    f = fopen(path[1], "w");
    fputs("{\"eos_token\": \"</s>\"}", f);
    fclose(f);
    expect_error(tok_open(dir, 0) ? 0 : -1, "\"eos_token\" is \"</s>\", which the vocabulary does not hold");
    for (int i = 0; i < 2; i++) {
        unlink(path[i]);
        free(path[i]);
    }
    free(json);
    assert_int_equal(rmdir(dir), 0);
}

// ---------------------------------------------------------------- refusals
static void refuse(int k, const char *from, const char *to, int rows, const char *says) {
    char *json = text_of_form(k, NULL), *other = changed(json, from, to);
    tok *t = parse(other, rows);
    expect_error(t ? 0 : -1, says);
    free(json);
    free(other);
}

static void refusals(void **state) {
    (void)state;
    enum { GPT2, LLAMA3, QWEN2, SMOLLM2, LLAMA2 };
    refuse(QWEN2, "\"NFC\"", "\"NFKC\"", 0, "tokenizer.json: normalizer \"NFKC\" is not implemented; NFC, Prepend");
    refuse(QWEN2, "\"type\":\"Split\"", "\"type\":\"Whitespace\"", 0,
           "pre-tokenizer \"Whitespace\" is not implemented");
    refuse(SMOLLM2, "{\"type\":\"Digits\"", "{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"", 0,
           "pre-tokenizer \"Digits\" after ByteLevel");
    refuse(QWEN2, "\"Isolated\"", "\"Sideways\"", 0, "behavior \"Sideways\"");
    refuse(QWEN2, "(?i:'s|", "(?i:\\\\h|", 0, "holds \"\\h\" at byte 4, which is not implemented");
    refuse(QWEN2, "(?i:'s|", "(?i:\\\\w|", 0, "holds \"\\w\"");
    refuse(QWEN2, "(?i:'s|", "(?i:[a[b]]|", 0, "holds \"[b\"");
    refuse(QWEN2, "(?i:'s|", "(?i:^s|", 0, "holds \"^s\"");
    refuse(QWEN2, "(?i:'s|", "(?i:a{2}+|", 0, "holds \"}+\"");
    refuse(QWEN2, "(?i:'s|", "(?i:'s*|a*|", 0, "may match no character");
    refuse(QWEN2, "(?i:'s|", "(?i:'s|(", 0, "cannot be compiled");
    refuse(LLAMA2, "\"type\":\"BPE\"", "\"type\":\"Unigram\"", 0, "model \"Unigram\" is not implemented; BPE is");
    refuse(LLAMA2, "\"dropout\":null", "\"dropout\":0.1", 0, "BPE with dropout");
    refuse(LLAMA2, "\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"", 0,
           "continuing_subword_prefix \"##\"");
    refuse(LLAMA2, "\"unk_token\":\"<unk>\"", "\"unk_token\":\"<what>\"", 0, "\"unk_token\" is \"<what>\"");
    refuse(LLAMA2, "\"type\":\"TemplateProcessing\"", "\"type\":\"BertProcessing\"", 0,
           "post-processor \"BertProcessing\" is not implemented");
    refuse(LLAMA2, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]",
           "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}]", 0,
           "puts \"</s>\" after a text");
    refuse(GPT2, "\"model\"", "\"modal\"", 0, "it holds no \"model\"");
    refuse(GPT2, "\"vocab\"", "\"vocal\"", 0, "its model has no \"vocab\"");
    refuse(GPT2, "\"merges\"", "\"merge\"", 0, "its model has no \"merges\"");
    refuse(GPT2, "\"version\"", "\"version", 0, "tokenizer.json:1: not valid JSON");
    refuse(GPT2, "\"!\":0", "\"!\":1", 0, "have the same id 1");
    refuse(GPT2, "\"!\":0", "\"!\":-1", 0, "the id of \"!\" must be a whole number");
    refuse(GPT2, "\"!\":0", "\"!!!\":0", 0, "the symbol \"!\" of byte 0x21 is missing");
    refuse(LLAMA2, "\"<0x21>\":", "\"<021>\":", 0, "the symbol \"<0x21>\" of byte 0x21 is missing");
    refuse(GPT2, "\"id\":500", "\"id\":501000", 501,
           "an added token: \"<|endoftext|>\" has id 501000, but the embedding has rows 0 to 500; is this");
    refuse(GPT2, "\"!\":0", "\"!\":0", 499,
           "but the embedding has rows 0 to 498; is this the tokenizer of another model?");
    // an added token in the rows by which some vocabularies are padded, which this embedding does not have
    char *json = text_of_form(GPT2, NULL);
    tok *t = parse(json, 500);
    if (!t) fail_msg("%s", err_get());
    assert_int_equal(tok_size(t), 500);
    assert_int_equal(tok_id(t, "<|endoftext|>"), -1);
    tok_close(t);
    free(json);
    refuse(GPT2, "\"content\":\"<|endoftext|>\"", "\"content\":\"!\"", 0, "but the vocabulary says 0");
    // merges that are cut short, as after a download that ended early and was mended by hand
    refuse(GPT2, "\"merges\":[", "\"merges\":[],\"were\":[", 0, "symbols of several characters, such as");
    refuse(LLAMA2, "\"merges\":[", "\"merges\":[],\"were\":[", 0, "are made by no merge");
    refuse(LLAMA3, "\"merges\":[", "\"merges\":[],\"were\":[", 0, "are made by no merge");
    refuse(GPT2, "\"merges\":[[", "\"merges\":[[\"q\",\"j\"],[", 0, "merge 1: \"qj\" is not in the vocabulary");
    refuse(GPT2, "\"merges\":[[", "\"merges\":[\"qj\",[", 0, "merge 1: two symbols are wanted");
}

// Older files write a merge as a text, and leave the type of the model out.
static void older_form(void **state) {
    (void)state;
    char *json = text_of_form(0, NULL), *p = strstr(json, "\"merges\":["), *end = json + strlen(json);
    char *old = xmalloc(strlen(json) + 1), *to = old;
    for (char *s = json; s < end;) {
        if (s > p && strncmp(s, "[\"", 2) == 0) {
            s++;
        } else if (s > p && strncmp(s, "\",\"", 3) == 0) {
            *to++ = ' ';
            s += 3;
        } else if (s > p && strncmp(s, "\"],", 3) == 0) {
            *to++ = '"';
            s += 2;
        } else {
            *to++ = *s++;
        }
    }
    *to = 0;
    char *last = strstr(old, "\"]]"), *older;
    assert_non_null(last);
    memmove(last + 1, last + 2, strlen(last + 2) + 1);
    older = changed(old, "\"type\":\"BPE\",", "");
    tok *a = parse(older, 0), *b = form(0);
    if (!a) fail_msg("%s", err_get());
    static const char text[] = "they were walking under the garden";
    ids x = encode(a, text, sizeof text - 1), y = encode(b, text, sizeof text - 1);
    assert_int_equal(x.n, y.n);
    assert_true(x.n < (int)sizeof text / 2);
    assert_memory_equal(x.id, y.id, (size_t)x.n * sizeof *x.id);
    free(x.id);
    free(y.id);
    free(json);
    free(old);
    free(older);
    tok_close(a);
    tok_close(b);
}

static int print_ids(const char *dir, const char *strings) {
    json_error_t why;
    json_t *all = json_load_file(strings, JSON_ALLOW_NUL, &why), *s;
    tok *t = tok_open(dir, 0);
    size_t k;
    if (!all || !t) {
        fprintf(stderr, "%s\n", t ? why.text : err_get());
        return 1;
    }
    json_array_foreach(all, k, s) {
        ids x = {0};
        if (tok_encode(t, json_string_value(s), json_string_length(s), &x.id, &x.n, &x.cap)) return 1;
        for (int i = 0; i < x.n; i++) printf("%s%d", i ? " " : "", x.id[i]);
        printf("\n");
        free(x.id);
    }
    json_decref(all);
    tok_close(t);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3) return print_ids(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(library_ids), cmocka_unit_test(there_and_back),
                                       cmocka_unit_test(names_and_begin), cmocka_unit_test(refusals),
                                       cmocka_unit_test(older_form)};
    return cmocka_run_group_tests_name("tok json", tests, NULL, NULL);
}
