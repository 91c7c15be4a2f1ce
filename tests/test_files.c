// test_files - the programs' HDF5 files explain themselves: every dataset of a store (32 and 16 bit), of aggregates,
// predictors, predictions and a mask has its attributes, and they are what criteria/FILES.md says of it; 16-bit numbers
// times the factors that `scale` names are the scores of the 32-bit store. By HDF5's own functions, not by ours.
#include "base.h"
#include "registry.h"
#include <fnmatch.h>
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test_files.XXXXXX";

// A program of the project, with {} for the folder of the test.
static void run(const char *line) {
    const char *bin = getenv("BIN");
    char *command = xasprintf("exec >%s/log 2>&1; export OMP_NUM_THREADS=1; T=%s; %s/%s", dir, dir,
                              bin ? bin : "build/opt/bin", line),
         *log = xasprintf("%s/log", dir);
    if (system(command) != 0) fail_msg("%s: %s", line, file_read(log, NULL));
    free(command);
    free(log);
}

// ---------------------------------------------------------------- the rows of FILES.md
enum { COLUMNS = 5 };
typedef struct {
    char *cell[COLUMNS];  // dataset as a pattern of fnmatch, axes, type, unit, what
    int seen;
} table_row;
enum { DATASET, AXES, TYPE, UNIT, WHAT };
static table_row rows[64];
static int n_rows;

static char *replaced(const char *text, const char *from, const char *to) {
    char *out = xstrdup(""), *at;
    for (; (at = strstr(text, from)); text = at + strlen(from)) {
        char *longer = xasprintf("%s%.*s%s", out, (int)(at - text), text, to);
        free(out);
        out = longer;
    }
    char *all = xasprintf("%s%s", out, text);
    free(out);
    return all;
}

static char *pattern_of(const char *cell) {
    static const char *const any[] = {"`", "[_compat]", "[neurons_]", "CRITERION", "TASK", "SPLIT", "KIND", "LAYER"};
    char *text = xstrdup(cell);
    for (size_t i = 0; i < sizeof any / sizeof *any; i++) {
        char *next = replaced(text, any[i], i ? "*" : "");
        free(text);
        text = next;
    }
    return text;
}

static int read_rows(void **state) {
    (void)state;
    char *text = file_read("criteria/FILES.md", NULL), *save = NULL;
    if (!text || !mkdtemp(dir)) return -1;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "| `/", 4) != 0) continue;
        char *at = line + 2, *end;
        for (int c = 0; c < COLUMNS; c++, at = end + 3) {
            if (!(end = strstr(at, c < COLUMNS - 1 ? " | " : " |"))) return -1;
            char *cell = xstrndup(at, (size_t)(end - at));
            rows[n_rows].cell[c] = c == DATASET ? pattern_of(cell) : xstrdup(cell);
            free(cell);
        }
        if (++n_rows == 64) return -1;
    }
    free(text);
    return n_rows > 0 ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    for (int i = 0; i < n_rows; i++)
        for (int c = 0; c < COLUMNS; c++) free(rows[i].cell[c]);
    char *command = xasprintf("rm -rf %s", dir);
    const int bad = system(command);
    free(command);
    return bad;
}

// ---------------------------------------------------------------- one dataset
// Text attribute; NULL: not there. Caller frees.
static char *text_of(hid_t object, const char *key) {
    if (H5Aexists(object, key) <= 0) return NULL;
    hid_t a = H5Aopen(object, key, H5P_DEFAULT), type = H5Aget_type(a);
    char *text = NULL, *out = NULL;
    if (H5Tis_variable_str(type) > 0 && H5Aread(a, type, &text) >= 0 && text) {
        out = xstrdup(text);
        H5free_memory(text);
    }
    H5Tclose(type);
    H5Aclose(a);
    return out;
}

static char *type_of(hid_t dataset) {
    hid_t type = H5Dget_type(dataset);
    const int bits = 8 * (int)H5Tget_size(type);
    char *name = NULL;
    if (H5Tget_class(type) == H5T_STRING) name = xstrdup("text");
    if (H5Tget_class(type) == H5T_FLOAT) name = xasprintf("float%d", bits);
    if (H5Tget_class(type) == H5T_INTEGER)
        name = xasprintf("%sint%d", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
    H5Tclose(type);
    return name ? name : xstrdup("none that is documented");
}

static void same(const char *path, const char *key, const char *is, const char *want) {
    if (!is || strcmp(is, want) != 0) fail_msg("%s: attribute %s is \"%s\", want \"%s\"", path, key, is, want);
}

// Whether a comma-separated list has this item.
static bool lists(const char *list, const char *item) {
    char *all = xasprintf(", %s, ", list), *one = xasprintf(", %s, ", item);
    const bool found = strstr(all, one) != NULL;
    free(all);
    free(one);
    return found;
}

static void check_dataset(hid_t d, const char *path, const char *model_hash) {
    char *plain = xstrdup(path), *layer = strstr(plain, "/layer_");
    if (layer) memmove(layer, strchr(layer + 1, '/'), strlen(strchr(layer + 1, '/')) + 1);
    int r = 0;
    while (r < n_rows && fnmatch(rows[r].cell[DATASET], plain, FNM_PATHNAME) != 0) r++;
    if (r == n_rows) fail_msg("%s is in no table of criteria/FILES.md", path);
    rows[r].seen++;
    const bool neurons = strncmp(strrchr(path, '/') + 1, "neurons", 7) == 0;
    char *axes = replaced(rows[r].cell[AXES], ", unit", neurons ? ", neuron" : ", head"), *type = type_of(d),
         *is[] = {text_of(d, "what"), text_of(d, "axes"), text_of(d, "unit"), text_of(d, "model_hash"),
                  text_of(d, "scale")};
    same(path, "what", is[0], rows[r].cell[WHAT]);
    same(path, "axes", is[1], axes);
    if (strcmp(rows[r].cell[UNIT], "of the criterion") != 0)
        same(path, "unit", is[2], rows[r].cell[UNIT]);
    else if (!is[2] || !*is[2] || strstr(is[2], "not stated"))
        fail_msg("%s: no unit", path);
    same(path, "model_hash", is[3], model_hash);
    if (!lists(rows[r].cell[TYPE], type)) fail_msg("%s: is %s, not %s", path, type, rows[r].cell[TYPE]);
    assert_int_equal(is[4] != NULL, strcmp(type, "float16") == 0);
    for (size_t i = 0; i < sizeof is / sizeof *is; i++) free(is[i]);
    free(type);
    free(axes);
    free(plain);
}

static herr_t check_object(hid_t file, const char *name, const H5O_info_t *info, void *model_hash) {
    if (info->type != H5O_TYPE_DATASET) return 0;
    hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
    char *path = xasprintf("/%s", name);
    check_dataset(d, path, model_hash);
    free(path);
    H5Dclose(d);
    return 0;
}

static hid_t open_file(const char *name) {
    char *path = xasprintf("%s/%s", dir, name);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) fail_msg("%s cannot be opened", path);
    free(path);
    return file;
}

static void check_file(const char *name) {
    hid_t file = open_file(name);
    char *model_hash = text_of(file, "model_hash");
    assert_non_null(model_hash);
    assert_true(H5Ovisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, check_object, model_hash) >= 0);
    free(model_hash);
    H5Fclose(file);
}

static void every_dataset_says_what_it_is(void **state) {
    (void)state;
    static const char score[] = "score --model tests/golden/opt/pre --data data/world --tasks copa,rte --shots 0 "
                                "--examples 8 --mode both --removal-neurons 2 --criteria all,removal,flap,wanda";
    static const char *const designs[] = {"shadow", "dejavu --features ahead", "sequence"};
    char *line = xasprintf("%s --out $T/store.h5", score),
         *half = xasprintf("%s --store-type fp16 --out $T/half.h5", score);
    run(line);
    run(half);
    free(line);
    free(half);
    run("aggregate --store $T/half.h5 --out $T/half.h5");
    run("aggregate --store $T/store.h5 --out $T/aggregates.h5");
    run("prune --model tests/golden/opt/pre --mask random --sparsity 40 --out $T/small");
    static const char *const files[] = {"store.h5", "half.h5", "aggregates.h5", "small/mask.h5"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) check_file(files[i]);
    for (size_t i = 0; i < sizeof designs / sizeof *designs; i++) {
        line =
            xasprintf("train --store $T/store.h5 --model tests/golden/opt/pre --criterion snip --hidden 8 --epochs 2 "
                      "--design %s --out $T/p%zu.h5 --predictions $T/pred%zu.h5",
                      designs[i], i, i);
        char *predictor = xasprintf("p%zu.h5", i), *predictions = xasprintf("pred%zu.h5", i);
        run(line);
        check_file(predictor);
        check_file(predictions);
        free(predictions);
        free(predictor);
        free(line);
    }
    for (int i = 0; i < n_rows; i++)
        if (!rows[i].seen) fail_msg("criteria/FILES.md: no file holds %s", rows[i].cell[DATASET]);
}

// The table of criteria: "| NAME, NAME | UNIT; compat: UNIT |".
static void units_of_criteria_are_documented(void **state) {
    (void)state;
    char *text = file_read("criteria/FILES.md", NULL), *save = NULL;
    int found = 0, criteria = 0;
    while (crit_all[criteria]) criteria++;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *middle = strncmp(line, "| ", 2) == 0 ? strstr(line, " | ") : NULL;
        if (!middle) continue;
        char *names = xstrndup(line + 2, (size_t)(middle - line - 2));
        for (int c = 0; c < criteria; c++) {
            if (!lists(names, crit_all[c]->name)) continue;
            found++;
            for (mode_kind mode = MODE_SOUND; mode < MODES; mode++)
                for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
                    if (!strstr(middle, crit_unit(crit_all[c], mode, kind)))
                        fail_msg("%s: %s does not say %s", crit_all[c]->name, line, crit_unit(crit_all[c], mode, kind));
        }
        free(names);
    }
    assert_int_equal(found, criteria);
    free(text);
}

// ---------------------------------------------------------------- 16 bit
// All of a dataset as double, and its dimensions. Caller frees.
static double *values_of(hid_t file, const char *path, hsize_t dim[3]) {
    hid_t d = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(d);
    assert_true(H5Sget_simple_extent_dims(space, dim, NULL) > 0);
    double *x = xmalloc((size_t)H5Sget_simple_extent_npoints(space) * sizeof *x);
    assert_true(H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Sclose(space);
    H5Dclose(d);
    return x;
}

// Half a unit in the last of 11 bits, or half the smallest 16-bit number under a scale that brings the row's largest
// value to 2^14 at least.
static void check_scaled(hid_t whole, hid_t half, const char *path) {
    hid_t d = H5Dopen2(half, path, H5P_DEFAULT);
    char *scale = text_of(d, "scale"), *beside = NULL;
    assert_non_null(scale);
    beside = xasprintf("%.*s/%s", (int)(strrchr(path, '/') - path), path, scale);
    hsize_t dim[3], other[3], n[3];
    double *want = values_of(whole, path, dim), *stored = values_of(half, path, other),
           *factor = values_of(half, beside, n);
    assert_memory_equal(dim, other, sizeof dim);
    assert_true(n[0] == dim[0]);
    const size_t width = (size_t)(dim[1] * dim[2]);
    for (size_t row = 0; row < dim[0]; row++) {
        double most = 0;
        for (size_t i = 0; i < width; i++) most = fmax(most, fabs(want[row * width + i]));
        for (size_t i = row * width; i < (row + 1) * width; i++)
            if (!(fabs(stored[i] * factor[row] - want[i]) <= fmax(fabs(want[i]) * 0x1p-11, most * 0x1p-39)))
                fail_msg("%s: row %zu: %g * %g is not %g", path, row, stored[i], factor[row], want[i]);
    }
    free(factor);
    free(stored);
    free(want);
    free(beside);
    free(scale);
    H5Dclose(d);
}

static void stored_times_scale_is_the_score(void **state) {
    (void)state;
    hid_t whole = open_file("store.h5"), half = open_file("half.h5");
    static const char *const path[] = {"/scores/fisher/heads", "/scores/fisher/neurons", "/scores/snip/heads",
                                       "/scores_compat/grad_norm/neurons"};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++) check_scaled(whole, half, path[i]);
    H5Fclose(whole);
    H5Fclose(half);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_dataset_says_what_it_is),
                                       cmocka_unit_test(units_of_criteria_are_documented),
                                       cmocka_unit_test(stored_times_scale_is_the_score)};
    return cmocka_run_group_tests(tests, read_rows, remove_dir);
}
