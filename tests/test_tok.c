// test_tok - the tokenizer against ids and merges of the `tokenizers` library (golden/make_tok.py), the symbols of
// bytes, any bytes there and back, threads. Vocabularies that are made for a test: test_vocabulary.
#include "tok_fixture.h"
#include "split.h"
#include <jansson.h>
#include <pthread.h>

#define OPT_FILES "../shared/data/opt_tokenizer"

// ---------------------------------------------------------------- against the tokenizers library
static json_t *strings(void) {
    json_error_t why;
    json_t *all = json_load_file(GOLDEN "/strings.json", JSON_ALLOW_NUL, &why);
    if (!all) fail_msg("%s", why.text);
    assert_true(json_array_size(all) >= 2000);
    return all;
}

static void check_strings(const char *dir, const char *ids_file) {
    tok *t = open_or_fail(dir);
    json_t *all = strings(), *s;
    char *want = file_read(ids_file, NULL), *at = want;
    assert_non_null(want);
    size_t k, wrong = 0;
    json_array_foreach(all, k, s) {
        const char *text = json_string_value(s);
        ids x = encode(t, text, json_string_length(s));
        bool same = true;
        int n = 0;
        for (; *at != '\n'; at += *at == ' ', n++) {
            long id = strtol(at, &at, 10);
            same = same && n < x.n && x.id[n] == id;
        }
        at++;
        if (!same || n != x.n) {
            print_message("string %zu \"%.40s\": other ids\n", k, text);
            wrong++;
        }
        free(x.id);
        check_identity(t, text, json_string_length(s));
    }
    assert_int_equal(*at, 0);
    assert_int_equal(wrong, 0);
    json_decref(all);
    free(want);
    tok_close(t);
}

static void small_vocabulary(void **state) {
    (void)state;
    check_strings(GOLDEN, GOLDEN "/small.ids");
}

static void opt_vocabulary(void **state) {
    (void)state;
    if (!file_exists(OPT_FILES)) {
        print_message("no %s: OPT's own vocabulary is not tested\n", OPT_FILES);
        skip();
    }
    check_strings(OPT_FILES, GOLDEN "/opt.ids");
    // the known vector of OPT's tokenizer
    static const int32_t want[] = {31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588};
    static const char text[] = "Hello world! cécé herlolip";
    tok *t = open_or_fail(OPT_FILES);
    ids x = encode(t, text, sizeof text - 1);
    assert_int_equal(x.n, 9);
    assert_memory_equal(x.id, want, sizeof want);
    free(x.id);
    tok_close(t);
}

// Names of special tokens cut a text; what is between is encoded by itself. Without them they are text.
static void special_tokens(void **state) {
    (void)state;
    static const char text[] = "<pad>A </s> cat<</s></s>";
    tok *t = open_or_fail(GOLDEN);
    int32_t *id = NULL, *want = NULL;
    int n = 0, cap = 0, n_want = 0, cap_want = 0;
    VEC_PUSH(want, n_want, cap_want, tok_id(t, "<pad>"));
    assert_int_equal(tok_encode(t, "A ", 2, &want, &n_want, &cap_want), 0);
    VEC_PUSH(want, n_want, cap_want, tok_id(t, "</s>"));
    assert_int_equal(tok_encode(t, " cat<", 5, &want, &n_want, &cap_want), 0);
    for (int i = 0; i < 2; i++) VEC_PUSH(want, n_want, cap_want, tok_id(t, "</s>"));
    assert_int_equal(tok_encode_special(t, text, sizeof text - 1, &id, &n, &cap), 0);
    assert_int_equal(n, n_want);
    assert_memory_equal(id, want, (size_t)n * sizeof *id);
    n = 0;
    assert_int_equal(tok_encode(t, text, sizeof text - 1, &id, &n, &cap), 0);
    assert_true(n > n_want);
    for (int i = 0; i < n; i++) assert_true(id[i] > 3);
    n = 0;
    assert_int_equal(tok_encode_special(t, "", 0, &id, &n, &cap), 0);
    assert_int_equal(n, 0);
    free(id);
    free(want);
    tok_close(t);
}

static void training(void **state) {
    (void)state;
    char dir[32];
    scratch_dir(dir);
    size_t bytes;
    char *text = file_read(GOLDEN "/text.txt", &bytes);
    assert_non_null(text);
    if (bpe_train(text, bytes, 700, dir) != 0) fail_msg("%s", err_get());
    char *path = xasprintf("%s/merges.txt", dir), *got = file_read(path, NULL),
         *want = file_read(GOLDEN "/merges.txt", NULL);
    assert_string_equal(got, want);
    tok *a = open_or_fail(dir), *b = open_or_fail(GOLDEN);
    assert_int_equal(tok_size(a), 700);
    assert_int_equal(tok_size(b), 700);
    for (int i = 0; i < 700; i++) {
        size_t n, m;
        const char *x = tok_bytes(a, i, &n), *y = tok_bytes(b, i, &m);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
    }
    tok_close(a);
    tok_close(b);
    free(path);
    free(got);
    free(want);

    assert_int_equal(bpe_train(text, bytes, 259, dir), -1);
    assert_non_null(strstr(err_get(), "at least 260"));
    assert_int_equal(bpe_train("abc", 3, 300, dir), -1);
    assert_non_null(strstr(err_get(), "give only 260 ids"));
    assert_int_equal(bpe_train(text, bytes, 300, "/nonexistent"), -1);
    assert_non_null(strstr(err_get(), "/nonexistent/vocab.json"));
    assert_int_equal(bpe_train("", 0, 260, dir), 0);  // bytes alone
    free(text);
    scratch_remove(dir);
}

// ---------------------------------------------------------------- byte symbols
static void byte_symbols(void **state) {
    (void)state;
    // the published table's corners: bytes_to_unicode of GPT-2's encoder.py
    static const int known[][2] = {{0, 0x100}, {9, 0x109},   {10, 0x10a},  {32, 0x120},  {33, 33},
                                   {126, 126}, {127, 0x121}, {128, 0x122}, {160, 0x142}, {161, 161},
                                   {172, 172}, {173, 0x143}, {174, 174},   {255, 255}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(symbol_of_byte(known[i][0]), known[i][1]);
    int symbols = 0;
    for (int c = -1; c < 0x10ffff; c++) {
        int b = symbol_byte(c);
        symbols += b >= 0;
        if (b >= 0) assert_int_equal(symbol_of_byte(b), c);
    }
    assert_int_equal(symbols, 256);
    char out[8];
    assert_int_equal(symbols_write(out, " a\n", 3), 5);
    assert_string_equal(out, "\xc4\xa0"
                             "a"
                             "\xc4\x8a");
    assert_int_equal(symbols_read(out, "\xc4\xa0"
                                       "a"
                                       "\xc4\x8a"),
                     3);
    assert_memory_equal(out, " a\n", 3);
    assert_int_equal(symbols_read(out, " "), -1);  // a space is not its own symbol
    assert_int_equal(symbols_read(out, "\xe2\x82\xac"), -1);
    assert_int_equal(symbols_read(out, "\xc2\xad"), -1);  // nor is U+00AD
    assert_int_equal(symbols_read(out, "\xc4"), -1);
}

static void any_bytes(void **state) {
    (void)state;
    tok *t = open_or_fail(GOLDEN);
    rng r = rng_make(5);
    char text[64];
    static const unsigned char likely[] = {0,    ' ',  '\n', 'e',  't',  '\'', 's',  '1', 0xc2,
                                           0xa0, 0xe2, 0x80, 0x83, 0xf0, 0x9f, 0x98, 0xff};
    for (int k = 0; k < 20000; k++) {
        size_t n = rng_below(&r, sizeof text + 1);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(k % 2 ? rng_below(&r, 256) : likely[rng_below(&r, sizeof likely)]);
        check_identity(t, text, n);
    }
    tok_close(t);
}

// ---------------------------------------------------------------- threads
typedef struct {
    const tok *t;
    json_t *all;
    ids got;
} job;

static void *work(void *arg) {
    job *j = arg;
    size_t k;
    json_t *s;
    for (int round = 0; round < 3; round++) {
        j->got.n = 0;
        json_array_foreach(j->all, k, s)
            tok_encode(j->t, json_string_value(s), json_string_length(s), &j->got.id, &j->got.n, &j->got.cap);
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    tok *t = open_or_fail(GOLDEN);
    json_t *all = strings();
    job alone = {t, all, {0}}, j[4];
    pthread_t p[4];
    work(&alone);
    for (int i = 0; i < 4; i++) {
        j[i] = (job){t, all, {0}};
        assert_int_equal(pthread_create(&p[i], NULL, work, &j[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(p[i], NULL);
        assert_int_equal(j[i].got.n, alone.got.n);
        assert_memory_equal(j[i].got.id, alone.got.id, (size_t)alone.got.n * sizeof(int32_t));
        free(j[i].got.id);
    }
    free(alone.got.id);
    json_decref(all);
    tok_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_vocabulary), cmocka_unit_test(opt_vocabulary),
                                       cmocka_unit_test(training),         cmocka_unit_test(byte_symbols),
                                       cmocka_unit_test(any_bytes),        cmocka_unit_test(threads),
                                       cmocka_unit_test(special_tokens)};
    return cmocka_run_group_tests_name("tok", tests, NULL, NULL);
}
