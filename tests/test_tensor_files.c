// test_tensor_files - files of tensors, safetensors and PyTorch's zipped pickles, whose headers, pickles and archives
// are damaged or lie: each is refused by name. Good files and pickles come from tests/golden/make_ckpt.py (PyTorch);
// the damage is done here, in memory.
#include "ckpt.h"
#include "refusal.h"
#include "zip_make.h"
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN "tests/golden/ckpt/"

// ---------------------------------------------------------------- safetensors
// A file of this header and `block` zero bytes of data.
static int parse_st(const char *header, size_t block) {
    size_t n = strlen(header), size = 8 + n + block;
    uint8_t *bytes = xcalloc(size, 1);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    tensor *t;
    int n_tensors, bad = st_parse(bytes, size, "file", &t, &n_tensors);
    if (!bad)
        tensors_free(t, n_tensors);
    else
        assert_null(t);
    free(bytes);
    return bad;
}

#define T(type, shape, begin, end) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void bad_safetensors(void **state) {
    (void)state;
    assert_int_equal(parse_st("{\"a\":" T("F32", "[2,2]", "0", "16") ",\"b\":" T("F16", "[]", "16", "18") "}", 18), 0);
    assert_int_equal(
        parse_st("{\"e\":" T("F32", "[0,5]", "0", "0") ",\"b\":" T("BF16", "[1,1,1,9]", "0", "18") "}  ", 18), 0);
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") ",\"b\":" T("F32", "[4]", "12", "28") "}", 28),
                 "tensors a and b overlap");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") ",\"b\":" T("F32", "[4]", "0", "16") "}", 16),
                 "overlap");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") ",\"b\":" T("F32", "[4]", "20", "36") "}", 36),
                 "4 bytes before tensor b belong to no tensor");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") "}", 17), "1 bytes after the last tensor");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") "}", 15), "tensor a: bytes 0..16 lie outside");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "9223372036854775800", "9223372036854775807") "}", 16),
                 "lie outside");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "18446744073709551632") "}", 16), "not valid JSON");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "-16", "0") "}", 16), "not two offsets");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "16", "0") "}", 16), "lie outside");
    expect_error(parse_st("{\"a\":" T("F32", "[5]", "0", "16") "}", 16), "does not fill");
    // 4 (2^62 + 1) wraps to 4
    expect_error(parse_st("{\"a\":" T("F32", "[4611686018427387905,4]", "0", "16") "}", 16), "does not fill");
    expect_error(parse_st("{\"a\":" T("F32", "[-4]", "0", "16") "}", 16), "no size");
    expect_error(parse_st("{\"a\":" T("F32", "[4.0]", "0", "16") "}", 16), "no size");
    expect_error(parse_st("{\"a\":" T("F32", "[1,1,1,1,4]", "0", "16") "}", 16), "at most 4 sizes");
    expect_error(parse_st("{\"a\":" T("C64", "[2]", "0", "16") "}", 16), "type C64");
    // a buffer of a module: read over, its size checked
    assert_int_equal(parse_st("{\"a\":" T("I64", "[2]", "0", "16") ",\"b\":" T("BOOL", "[1]", "16", "17") "}", 17), 0);
    expect_error(parse_st("{\"a\":" T("I64", "[4]", "0", "16") "}", 16), "does not fill");
    expect_error(parse_st("{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 16), "type is missing");
    expect_error(parse_st("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,32]}}", 16),
                 "not two offsets");
    expect_error(parse_st("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 16), "shape is not a list");
    expect_error(parse_st("{\"a\":[1]}", 16), "not a JSON object");
    expect_error(parse_st("{\"a\":" T("F32", "[4]", "0", "16") ",\"a\":" T("F32", "[4]", "0", "16") "}", 16),
                 "duplicate");
    expect_error(parse_st("{\"a\nb\":1}", 0), "not valid JSON");
    expect_error(parse_st("[]", 0), "not a JSON object");
    expect_error(parse_st("{\"a\":", 0), "not valid JSON");
}

static void bad_header(void **state) {
    (void)state;
    static const uint8_t huge[] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
                         big[] = {0, 0, 0, 0, 1, 0, 0, 0, '{', '}'}, over[] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    tensor *t;
    int n;
    expect_error(st_parse(huge, sizeof huge, "file", &t, &n), "header of 18446744073709551615 bytes");
    expect_error(st_parse(big, sizeof big, "file", &t, &n), "header of 4294967296 bytes");
    expect_error(st_parse(over, sizeof over, "file", &t, &n), "header of 3 bytes");
    expect_error(st_parse(over, 7, "file", &t, &n), "too few");
}

// A file cut anywhere is refused.
static void truncated(void **state) {
    (void)state;
    static const char *const files[] = {GOLDEN "st/model.safetensors", GOLDEN "bin_350m/pytorch_model.bin"};
    for (int i = 0; i < 2; i++) {
        size_t size;
        char *bytes = file_read(files[i], &size);
        assert_non_null(bytes);
        for (size_t cut = 0; cut < size; cut += cut + 300 < size ? 37 : 1) {
            tensor *t;
            int n;
            uint8_t *part = xmalloc(cut);
            memcpy(part, bytes, cut);
            int bad = i ? pt_parse(part, cut, "file", &t, &n) : st_parse(part, cut, "file", &t, &n);
            if (!bad) fail_msg("%s cut to %zu bytes is accepted", files[i], cut);
            free(part);
        }
        free(bytes);
    }
}

// ---------------------------------------------------------------- pytorch_model.bin
static int parse_pt(const char *path) {
    size_t size;
    char *bytes = file_read(path, &size);
    assert_non_null(bytes);
    tensor *t;
    int n, bad = pt_parse((const uint8_t *)bytes, size, path, &t, &n);
    if (!bad)
        tensors_free(t, n);
    else
        assert_null(t);
    free(bytes);
    return bad;
}

static void bad_pickles(void **state) {
    (void)state;
    unlink("evil-was-here");
    expect_error(parse_pt(GOLDEN "bad/evil.bin"), "it calls for posix.system");
    assert_false(file_exists("evil-was-here"));
    expect_error(parse_pt(GOLDEN "bad/overlap.bin"), "tensors a and b overlap");
    expect_error(parse_pt(GOLDEN "bad/compressed.bin"), "it is compressed");
}

// The tensor 0..11 of shape [3, 4], however it was saved: transposed, in a dict, as a Parameter, in the form before
// torch 1.6, by protocol 4, with all that a training script saves.
static void other_pickles(void **state) {
    (void)state;
    static const char *const names[] = {"transposed", "nested", "parameter", "old_form", "protocol4", "training"};
    for (int k = 0; k < 6; k++) {
        char *path = xasprintf(GOLDEN "other/%s.bin", names[k]);
        size_t size;
        char *bytes = file_read(path, &size);
        assert_non_null(bytes);
        tensor *t;
        int n;
        if (pt_parse((const uint8_t *)bytes, size, path, &t, &n)) fail_msg("%s", err_get());
        assert_int_equal(n, 1);
        assert_string_equal(t->name, "fc1.weight");
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->dim[0], k ? 3 : 4);
        for (int i = 0; i < 12; i++) {
            float x;
            memcpy(&x, (const char *)t->data + 4 * i, 4);
            assert_true(x == (float)(k ? i : i % 3 * 4 + i / 3));
        }
        tensors_free(t, n);
        // cut anywhere it is refused
        for (size_t cut = 0; cut < size; cut += 7) {
            uint8_t *part = xmalloc(cut);
            memcpy(part, bytes, cut);
            assert_int_equal(pt_parse(part, cut, path, &t, &n), -1);
            free(part);
        }
        free(bytes);
        free(path);
    }
    tensor *t;
    int n;
    size_t size;
    char *bytes = file_read(GOLDEN "other/long.bin", &size);
    assert_int_equal(pt_parse((const uint8_t *)bytes, size, "long", &t, &n), 0);
    assert_string_equal(t->foreign, "int64");
    assert_null(t->data);
    tensors_free(t, n);
    free(bytes);
}

#define PAIR(a, b) ((const char *[]){a, b})
static const char sixteen[] = "0123456789abcdef";

#define TENSOR_HEAD                "\x80\x02}(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(("
#define STORAGE(class, key, count) "X\x07\0\0\0storagectorch\n" class "\nX\x01\0\0\0" key "X\x03\0\0\0cpuK" count "tQ"
#define TENSOR_TAIL                "\x89}tRu."

// Parses an archive of this pickle and a storage "0" of 16 bytes.
static int parse_pickle(const char *pickle, size_t n) {
    archive a = zip_make(PAIR("a/data.pkl", "a/data/0"), PAIR(pickle, sixteen), (size_t[]){n, 16}, 2, false);
    tensor *t;
    int n_tensors, bad = pt_parse(a.bytes, a.n, "file", &t, &n_tensors);
    if (!bad) tensors_free(t, n_tensors);
    free(a.bytes);
    return bad;
}
#define PICKLE(text) parse_pickle(text, sizeof(text) - 1)

static void pickle_opcodes(void **state) {
    (void)state;
    assert_int_equal(
        PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x02K\x02\x86K\x02K\x01\x86" TENSOR_TAIL), 0);
    assert_int_equal(
        PICKLE(TENSOR_HEAD STORAGE("HalfStorage", "0", "\x08") "K\x01K\x03\x85\x8a\x01\x01\x85" TENSOR_TAIL), 0);
    expect_error(PICKLE(TENSOR_HEAD STORAGE("HalfStorage", "0", "\x04") "K\0K\x04\x85K\x01\x85" TENSOR_TAIL),
                 "has 16 bytes, but data.pkl says 4 elements of float16");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "1", "\x04") "K\0K\x04\x85K\x01\x85" TENSOR_TAIL),
                 "zip entry a/data/1 is missing");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\x01K\x04\x85K\x01\x85" TENSOR_TAIL),
                 "beyond its storage");
    expect_error(
        PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "J\xff\xff\xff\xffK\x04\x85K\x01\x85" TENSOR_TAIL),
        "beyond its storage");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0",
                                            "\x04") "K\0\x8a\x08\0\0\0\0\0\0\0\x40K\x04\x86K\x04K\x01\x86" TENSOR_TAIL),
                 "beyond its storage");
    expect_error(
        PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0J\xff\xff\xff\xff\x85K\x01\x85" TENSOR_TAIL),
        "beyond its storage");
    // every second element; one, expanded to five and to two thousand million; one beyond the storage
    assert_int_equal(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x02\x85K\x02\x85" TENSOR_TAIL), 0);
    assert_int_equal(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x05\x85K\0\x85" TENSOR_TAIL), 0);
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0J\xff\xff\xff\x7f\x85K\0\x85" TENSOR_TAIL),
                 "more room than all storages");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x02\x85K\x04\x85" TENSOR_TAIL),
                 "beyond its storage");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x04\x85K\x01K\x01\x86" TENSOR_TAIL),
                 "1 sizes and 2 strides");
    expect_error(PICKLE(TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0NK\x01\x85" TENSOR_TAIL),
                 "is None, not a tuple");
    expect_error(PICKLE("\x80\x02}(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n)Ru."), "of 0 items instead of 6");
}

static void bad_opcodes(void **state) {
    (void)state;
    expect_error(PICKLE("\x80\x02"
                        "cbuiltins\neval\n(X\x01\0\0\0"
                        "1tR."),
                 "it calls for builtins.eval");
    expect_error(PICKLE("\x80\x02"
                        "ccollections\nOrderedDict\n(K\x01tR."),
                 "a call of collections.OrderedDict");
    expect_error(PICKLE("\x80\x02"
                        "ctorch\nFloatStorage\n)R."),
                 "a call of torch.FloatStorage");
    expect_error(PICKLE("\x80\x02"
                        "i"),
                 "opcode 0x69");
    expect_error(PICKLE("\x80\x02"
                        "}"),
                 "it ends within a value");
    expect_error(PICKLE("\x80\x02."), "its stack is empty");
    expect_error(PICKLE("\x80\x02K\x01."), "a number where a dict should be");
    expect_error(PICKLE("\x80\x02}(K\x01u."), "items without a dict");
    expect_error(PICKLE("\x80\x02}K\x01K\x01s."), "a key that is no text");
    expect_error(PICKLE("\x80\x02u."), "no mark");
    expect_error(PICKLE("\x80\x02h\x05."), "memo number 5 was never set");
    expect_error(PICKLE("\x80\x02}r\xff\xff\xff\xff."), "memo number 4294967295");
    expect_error(PICKLE("\x80\x02X\xff\xff\xff\xff"
                        "a."),
                 "it ends within a value");
    expect_error(PICKLE("\x80\x02\x8a\x09"
                        "123456789."),
                 "an object where a dict should be");
    expect_error(PICKLE("\x80\x02(((\x85."), "a mark within a tuple");
    expect_error(PICKLE("\x80\x02Nb."), "None where a dict should be");
    expect_error(PICKLE("\x80\x02K\x01}b."), "attributes of something that is no dict");
    expect_error(PICKLE("\x80\x02K\x01Q."), "a number where a tuple should be");
    expect_error(PICKLE("\x80\x02"
                        "cthis name does not end"),
                 "a name that does not end");
}

static const char good_pickle[] = TENSOR_HEAD STORAGE("FloatStorage", "0", "\x04") "K\0K\x04\x85K\x01\x85" TENSOR_TAIL;

static archive good_zip(bool wide) {
    return zip_make(PAIR("a/data.pkl", "a/data/0"), PAIR(good_pickle, sixteen), (size_t[]){sizeof good_pickle - 1, 16},
                    2, wide);
}

static void expect_sixteen(const archive *a) {
    tensor *t;
    int n;
    if (pt_parse(a->bytes, a->n, "file", &t, &n)) fail_msg("%s", err_get());
    assert_int_equal(n, 1);
    assert_memory_equal(t[0].data, sixteen, 16);
    tensors_free(t, n);
}

static void expect_zip_error(const archive *a, const char *part) {
    tensor *t;
    int n;
    expect_error(pt_parse(a->bytes, a->n, "file", &t, &n), part);
}

// One byte of a good archive changed: which, to what, and the message.
typedef struct {
    size_t at;
    int to;
    const char *part;
} lie;

static void expect_lies(archive *a, const lie *lies, size_t n) {
    expect_sixteen(a);
    for (size_t i = 0; i < n; i++) {
        const uint8_t was = a->bytes[lies[i].at];
        a->bytes[lies[i].at] = (uint8_t)lies[i].to;
        expect_zip_error(a, lies[i].part);
        a->bytes[lies[i].at] = was;
    }
}

static void lying_zip(void **state) {
    (void)state;
    archive a = good_zip(false);
    const size_t end = a.n - 22;
    const lie lies[] = {
        {a.centrals[1] + 24, 17, "two sizes differ"},
        {a.centrals[1] + 23, 127, "two sizes differ"},
        {a.locals[1] + 22, 15, "two headers disagree"},
        {a.locals[1] + 18, 17, "two headers disagree"},
        {a.centrals[1] + 10, 8, "compressed"},
        {a.locals[1] + 8, 8, "two headers disagree"},
        {a.centrals[1] + 8, 1, "encrypted"},
        {a.centrals[1] + 42, 1, "no local header"},
        {a.centrals[1] + 45, 255, "no local header"},
        {a.centrals[0] + 46, 'b', "another name"},
        {a.locals[1] + 28, 1, "do not fit"},
        {a.locals[1] + 29, 255, "do not fit"},
        {a.centrals[1] + 30, 255, "inconsistent"},
        {a.centrals[0], 0, "inconsistent"},
        {end + 10, 1, "inconsistent"},
        {end + 10, 3, "inconsistent"},
        {end + 12, 0, "inconsistent"},
        {end + 16, 0, "inconsistent"},
        {end + 4, 1, "split zip archive"},
        {end + 20, 1, "no zip directory"},
        {end, 0, "no zip directory"},
    };
    expect_lies(&a, lies, sizeof lies / sizeof *lies);
    // both, in both headers
    for (size_t k = 0; k < 2; k++) a.bytes[a.centrals[1] + 20 + 4 * k] = a.bytes[a.locals[1] + 18 + 4 * k] = 200;
    expect_zip_error(&a, "do not fit");
    free(a.bytes);
    a = good_zip(false);
    memcpy(a.bytes + a.centrals[1] + 42, a.bytes + a.centrals[0] + 42, 4);
    expect_zip_error(&a, "another name");
    free(a.bytes);
}

// The 64-bit form, which files over 4 GiB have.
static void wide_zip(void **state) {
    (void)state;
    archive a = good_zip(true);
    const size_t extra = a.centrals[1] + 46 + strlen("a/data/0"), record = a.n - 22 - 20 - 56;
    const lie lies[] = {
        {extra, 2, "no local header"},
        {extra + 2, 23, "extra field is damaged"},
        {extra + 2, 25, "extra field is damaged"},
        {extra + 4, 17, "two sizes differ"},
        {extra + 11, 128, "two sizes differ"},
        {extra + 20, 1, "no local header"},
        {extra + 27, 255, "no local header"},
        {record + 32, 3, "inconsistent"},
        {record + 40, 1, "inconsistent"},
        {record + 55, 255, "inconsistent"},
        {record + 56 + 8, 1, "inconsistent"},
        {record + 56 + 15, 255, "inconsistent"},
        {a.n - 22 + 10, 7, "inconsistent"},
    };
    expect_lies(&a, lies, sizeof lies / sizeof *lies);
    free(a.bytes);
}

static void zip_entries(void **state) {
    (void)state;
    static const char empty[] = "\x80\x02}.";
    const struct {
        const char *names[2], *data[2];
        size_t sizes[2];
        const char *part;
    } cases[] = {
        {{"a/data/0", "a/x"}, {"", ""}, {0, 0}, "holds no data.pkl"},
        {{"a/data.pkl", "a/byteorder"}, {empty, "big"}, {4, 3}, "not little endian"},
        {{"a/data.pkl", "a/data.pkl"}, {empty, empty}, {4, 4}, "zip entry a/data.pkl: it is there twice"},
        {{"a/data.pkl", "b/data.pkl"}, {empty, empty}, {4, 4}, "holds two pickles"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        archive a = zip_make(cases[i].names, cases[i].data, cases[i].sizes, 2, false);
        expect_zip_error(&a, cases[i].part);
        free(a.bytes);
    }
    // an entry inside another one's data, with headers that are sound in themselves
    archive inner = zip_make(PAIR("b", "c"), PAIR("xy", ""), (size_t[]){2, 0}, 1, false);
    archive a = zip_make(PAIR("a/data.pkl", "b"), PAIR((const char *)inner.bytes, "xy"),
                         (size_t[]){inner.centrals[0], 2}, 2, false);
    a.bytes[a.centrals[1] + 42] = 30 + 10;
    expect_zip_error(&a, "two zip entries overlap");
    free(a.bytes);
    free(inner.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_safetensors), cmocka_unit_test(bad_header),    cmocka_unit_test(truncated),
        cmocka_unit_test(bad_pickles),     cmocka_unit_test(other_pickles), cmocka_unit_test(pickle_opcodes),
        cmocka_unit_test(bad_opcodes),     cmocka_unit_test(lying_zip),     cmocka_unit_test(wide_zip),
        cmocka_unit_test(zip_entries),
    };
    return cmocka_run_group_tests_name("tensor files", tests, NULL, NULL);
}
