// bench_model - the model that is timed, and whether it fits. Contract in bench.h.
#include "bench.h"
#include "convert.h"
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- loading
static size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }
static size_t numbers(const tensor *t) { return tensor_bytes(t) / dtype_bytes(t->type); }

static const char *stored_as(const ckpt *file) {
    for (int i = 1; i < file->n_tensors; i++)
        if (file->tensors[i].type != file->tensors[0].type) return "mixed";
    return dtype_options[file->tensors[0].type];
}

// The checkpoint's tensors in another type, in one block of ours.
static void cast(bench_model *b, const ckpt *file, dtype type) {
    size_t bytes = 0, most = 0;
    b->n_cast = file->n_tensors;
    b->cast = xcalloc((size_t)b->n_cast, sizeof *b->cast);
    for (int i = 0; i < b->n_cast; i++) {
        const size_t count = numbers(&file->tensors[i]);
        bytes += padded(count * dtype_bytes(type));
        most = count > most ? count : most;
    }
    char *at = b->block = xaligned(bytes);
    float *wide = xmalloc(most * sizeof *wide);
    for (int i = 0; i < b->n_cast; i++) {
        const tensor *t = &file->tensors[i];
        const size_t count = numbers(t);
        dtype_widen(wide, t->data, t->type, count);
        dtype_narrow(at, type, wide, count);
        b->cast[i] = *t;
        b->cast[i].name = xstrdup(t->name);
        b->cast[i].type = type;
        b->cast[i].data = at;
        at += padded(count * dtype_bytes(type));
    }
    free(wide);
}

static int open_checkpoint(bench_model *b, const char *dir, int weights, const ops *o) {
    char *path = realpath(dir, NULL);
    b->name = xstrdup(path ? basename(path) : dir);
    free(path);
    if (weights < 0) {
        if (model_load_on(&b->m, dir, o) != 0) return -1;
        b->weights = stored_as(&b->m.file);
        return 0;
    }
    ckpt file = {0};
    if (ckpt_open(&file, dir) != 0) return -1;
    int bad = ckpt_check_values(&file);
    if (!bad) {
        cast(b, &file, (dtype)weights);
        bad = model_from_tensors_on(&b->m, &file.config, b->cast, b->n_cast, o);
    }
    if (bad)
        ckpt_close(&file);
    else
        b->m.file = file;  // its hash names the model
    b->weights = dtype_options[weights];
    return bad;
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
        b->weights = dtype_options[type];
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
    tensors_free(b->cast, b->n_cast);
    free(b->block);
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

int bench_fits(const char *name, const model_config *c, dtype type, const bench_need *n, const ops *o) {
    const model m = model_unloaded(c, o);
    const double weights = (double)model_random_bytes(c, type), E = c->E, L = c->L, gb = 1e-9;
    const double wide = type != DT_F32 && o->host && 2 * weights <= (double)((size_t)1 << 30) ? 2 * weights : 0;
    const double transposed = n->masked ? L * (E * E + E * c->F) * (double)dtype_bytes(type) : 0;
    const double caches = (n->kv == KV_REPAIR && n->masked ? 3 : 2) * (double)n->batch * (n->prompt + n->tokens) * L *
                          E * (double)sizeof(float);
    const double work = (double)bench_bandwidth_bytes(o) +
                        (double)model_run_bytes(&m, n->prompt * n->batch, n->batch, RUN_FORWARD) +
                        (double)model_run_bytes(&m, n->batch, n->batch, RUN_FORWARD);
    const double need = weights + wide + transposed + caches + work + n->predictors, room = bench_room(o);
    if (need <= room) return 0;
    return err_set("%s with %s weights needs %.0f bytes of memory (%.1f GB: weights %.1f, copies for masks %.1f, "
                   "predictors %.1f, caches and workspace %.1f), and %.1f GB are available; "
                   "take a smaller shape, --weights fp16 or a machine with more memory",
                   name, dtype_options[type], need, need * gb, (weights + wide) * gb, transposed * gb,
                   n->predictors * gb, (caches + work) * gb, room * gb);
}
