// bench_model - the model that is timed, and whether it fits. Contract in bench.h.
#include "bench.h"
#include "model_weights.h"
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- loading
// The type of all matrices; of several the one in blocks that most numbers have, or "mixed".
static const char *stored_as(const ckpt *file) {
    static const char *const names[DTYPES] = {"fp32", "fp16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k"};
    size_t numbers[DTYPES] = {0}, all = 0;
    int most = DT_Q8_0;
    for (int i = 0; i < file->n_tensors; i++)
        if (file->tensors[i].rank > 1) {
            numbers[file->tensors[i].type] += tensor_numbers(&file->tensors[i]);
            all += tensor_numbers(&file->tensors[i]);
        }
    for (int t = 0; t < DTYPES; t++)
        if (numbers[t] == all) return names[t];
    for (int t = DT_Q8_0; t < DTYPES; t++) most = numbers[t] > numbers[most] ? t : most;
    return numbers[most] ? names[most] : "mixed";
}

static int open_checkpoint(bench_model *b, const char *dir, int weights, const ops *o) {
    char *path = realpath(dir, NULL);
    b->name = xstrdup(path ? basename(path) : dir);
    free(path);
    if (model_load_as(&b->m, dir, o, weights) != 0) return -1;
    b->weights = weights < 0 ? stored_as(&b->m.file) : weight_options[weights];
    return 0;
}

int bench_model_open(bench_model *b, const char *dir, const char *shape, int weights, uint64_t seed, const ops *o) {
    *b = (bench_model){0};
    int bad;
    if (dir)
        bad = open_checkpoint(b, dir, weights, o);
    else {
        model_config c;
        b->is_random = true;
        b->name = xstrdup(shape);
        const dtype type = weights < 0 ? DT_F32 : (dtype)weights;
        b->weights = weight_options[type];
        bad = model_shape(&c, shape) != 0 || model_random_make(&b->random, &c, type, seed, o) != 0 ? -1 : 0;
        b->m = b->random.m;
    }
    if (bad) bench_model_close(b);
    return bad;
}

void bench_model_close(bench_model *b) {
    if (!b->is_random)
        model_free(&b->m);
    else
        b->random.m = b->m;
    model_random_free(&b->random);
    free(b->name);
    *b = (bench_model){0};
}

// ---------------------------------------------------------------- memory
// A number behind `key` in a file of the system; -1: none.
static double system_number(const char *path, const char *key) {
    size_t bytes;
    char *text = file_exists(path) ? file_read(path, &bytes) : NULL, *at = text ? strstr(text, key) : NULL, *end;
    double x = -1;
    if (at) {
        x = strtod(at + strlen(key), &end);
        if (end == at + strlen(key)) x = -1;
    }
    free(text);
    return x;
}

double bench_room(const ops *o) {
    if (!o->host) {
        double all = 0;
        for (int p = 0; p < o->parts; p++) {
            o->use(p);
            all += (double)o->room();
        }
        return all;
    }
    const double kib = system_number("/proc/meminfo", "MemAvailable:"),
                 most = system_number("/sys/fs/cgroup/memory.max", ""),
                 used = system_number("/sys/fs/cgroup/memory.current", "");
    double room = kib >= 0 ? kib * 1024 : 1e18;
    if (most >= 0 && used >= 0 && most - used < room) room = most - used;
    return room;
}

// Bytes of the weights of a configuration as they are loaded, of fp32 copies beside them, of transposed copies.
typedef struct {
    const model_config *c;
    const ckpt *file;  // NULL: random weights
    int weights;
    const ops *o;
    double kept, halves, transposed;
} weight_need;

static int count_weight(void *ctx, const tensor_at *at) {
    weight_need *n = ctx;
    const tensor *t = n->file ? ckpt_find(n->file, at->name) : NULL;
    const dtype stored = t ? t->type : DT_F32;
    const weight_form form = model_weight_form(n->c, at->spec, stored, n->weights, n->o);
    const double count = (double)at->rows * (at->spec->cols == DIM_NONE ? 1 : at->cols),
                 bytes = count / (double)dtype_block(form.type) * (double)dtype_size(form.type, dtype_block(form.type));
    n->kept += bytes;
    if (form.type == DT_F16 || form.type == DT_BF16) n->halves += count;
    if (at->spec->transposed && !form.turned && n->o->host) n->transposed += bytes;
    return 0;
}

int bench_fits(const char *name, const model_config *c, const ckpt *file, int weights, const bench_need *n,
               const ops *o) {
    const model m = model_unloaded(c, o);
    weight_need need_of = {c, file, weights, o, 0, 0, 0};
    arch_each_tensor(c, count_weight, &need_of);
    const double wide = 4 * need_of.halves <= (double)((size_t)1 << 30) && o->host ? 4 * need_of.halves : 0, gb = 1e-9;
    const double kept = need_of.kept + wide, transposed = n->masked ? need_of.transposed : 0;
    const double width = 2.0 * m.arch.kv_heads * c->D + (n->kv == KV_REPAIR && n->masked ? c->E : 0);
    const double caches = (double)n->batch * (n->prompt + n->tokens) * c->L * width * (double)sizeof(float);
    const double work = (double)bench_bandwidth_bytes(o) +
                        (double)model_run_bytes(&m, n->prompt * n->batch, n->batch, RUN_FORWARD) +
                        (double)model_run_bytes(&m, n->batch, n->batch, RUN_FORWARD);
    const double need = kept + transposed + caches + work + n->predictors, room = bench_room(o);
    if (need <= room) return 0;
    return err_set("%s with %s weights needs %.0f bytes of memory (%.1f GB: weights %.1f, copies for masks %.1f, "
                   "predictors %.1f, caches and workspace %.1f), and %.1f GB are available; "
                   "take a smaller shape, --weights of fewer bytes or a machine with more memory",
                   name, weights < 0 ? "its" : weight_options[weights], need, need * gb, kept * gb, transposed * gb,
                   n->predictors * gb, (caches + work) * gb, room * gb);
}
