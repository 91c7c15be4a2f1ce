// ckpt - opening, validating, hashing and saving checkpoint directories. Contract and file forms in ckpt.h.
// The forms, their order and the names are those of transformers' from_pretrained and save_pretrained.
#include "arch.h"
#include "config_tokens.h"
#include "folder.h"
#include "fused.h"
#include "gguf.h"
#include "json_read.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const unit_names[UNIT_KINDS] = {"heads", "neurons"};
const char *const unit_names_of_one[UNIT_KINDS] = {"head", "neuron"};

typedef int parse_fn(const uint8_t *bytes, size_t n, const char *path, tensor **tensors, int *n_tensors);

// ---------------------------------------------------------------- files into tensors
static int map_file(ckpt *c, const char *path, const uint8_t **bytes, size_t *n) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_open(path);
    void *base = MAP_FAILED;
    int bad = -1;
    if (fstat(fd, &st))
        err_set("%s: cannot read: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        err_set("%s: not a file with content; fetch it again", path);
    else if ((base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        err_set("%s: cannot map %lld bytes: %s", path, (long long)st.st_size, strerror(errno));
    else
        bad = 0;
    close(fd);
    if (bad) return -1;
    *bytes = base;
    *n = (size_t)st.st_size;
    VEC_PUSH(c->maps, c->n_maps, c->cap_maps, ((struct ckpt_map){.base = base, .bytes = *n}));
    return check_lfs(path, base, *n);
}

// What torch's DataParallel, compile, FSDP and checkpoint wrappers, DeepSpeed under Lightning, and PEFT put before
// names.
static const char *const wrappers[] = {
    "module.",           "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.",
    "base_model.model.", NULL};

static size_t wrapper_length(const char *name) {
    for (const char *const *w = wrappers; *w; w++)
        if (!strncmp(name, *w, strlen(*w))) return strlen(*w);
    return 0;
}

// Without the wrappers before the whole name, and Lightning's "model.".
static const char *unwrapped(const char *name) {
    for (size_t n; (n = wrapper_length(name)); name += n) continue;
    return strncmp(name, "model.model.", strlen("model.model.")) ? name : unwrapped(name + strlen("model."));
}

// OPT's "model.decoder.layers...", "decoder.layers..." and "layers..." are the same tensor; wrappers of single layers
// stand within the name. The caller's.
static char *short_name(const ckpt *c, const char *name) {
    char *out = xmalloc(strlen(name) + 1), *end = out;
    for (const char *p = name; *p;) {
        for (size_t w; (w = wrapper_length(p)); p += w) continue;
        while (*p && (*end++ = *p++) != '.') continue;
    }
    *end = 0;
    const char *at = unwrapped(out);
    for (const char *const *prefix = arch_of(&c->config).family->prefixes; *prefix; prefix++)
        if (!strncmp(at, *prefix, strlen(*prefix))) at += strlen(*prefix);
    memmove(out, at, strlen(at) + 1);
    return out;
}

// Adds the tensors of one file, which it takes, after those that are there.
static void add_tensors(ckpt *c, const char *path, tensor *ts, int n) {
    c->n_files++;
    c->tensors = xrealloc(c->tensors, (size_t)(c->n_tensors + n + 1) * sizeof *ts);
    if (n && unwrapped(ts[0].name) != ts[0].name)
        log_info("%s: \"%.*s\" before the tensors' names is left out", path, (int)(unwrapped(ts[0].name) - ts[0].name),
                 ts[0].name);
    for (int i = 0; i < n; i++) {
        tensor *t = &c->tensors[c->n_tensors++];
        *t = ts[i];
        t->name = short_name(c, ts[i].name);
        ts[i].made = NULL;
        if (t->foreign || dtype_in_blocks(t->type) || (uintptr_t)t->data % dtype_bytes(t->type) == 0) continue;
        struct ckpt_map copy = {.base = xaligned(tensor_bytes(t)), .bytes = tensor_bytes(t), .owned = true};
        memcpy(copy.base, t->data, copy.bytes);
        t->data = copy.base;
        VEC_PUSH(c->maps, c->n_maps, c->cap_maps, copy);
    }
    tensors_free(ts, n);
}

static int load_file(ckpt *c, const char *path, parse_fn *parse) {
    const uint8_t *bytes = NULL;
    size_t size = 0;
    tensor *ts = NULL;
    int n = 0;
    if (map_file(c, path, &bytes, &size) || parse(bytes, size, path, &ts, &n)) return -1;
    add_tensors(c, path, ts, n);
    return 0;
}

// llama.cpp's one file, configuration included.
static int load_gguf(ckpt *c, const char *path) {
    const uint8_t *bytes = NULL;
    size_t size = 0;
    tensor *ts = NULL;
    int n = 0;
    if (map_file(c, path, &bytes, &size) || gguf_load(bytes, size, path, &c->config, &ts, &n)) return -1;
    add_tensors(c, path, ts, n);
    return 0;
}

static const tensor *named(const tensor *ts, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(ts[i].name, name)) return &ts[i];
    return NULL;
}

// The tensor of that name in a file, among those from `first` on.
static const tensor *of_shard(const ckpt *c, int first, const char *name) {
    char *wanted = short_name(c, name);
    const tensor *t = named(c->tensors + first, c->n_tensors - first, wanted);
    free(wanted);
    return t;
}

static void drop(ckpt *c, const tensor *t) {
    int i = (int)(t - c->tensors);
    free(c->tensors[i].name);
    free(c->tensors[i].made);
    memmove(&c->tensors[i], &c->tensors[i + 1], (size_t)(--c->n_tensors - i) * sizeof *t);
}

// Where a tensor is in two shards, the index says which one counts.
static void drop_others_of_shard(ckpt *c, const json_t *map, const char *shard, int first) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)map, name, v) {
        if (!strcmp(json_string_value(v), shard)) continue;
        const tensor *t = of_shard(c, first, name);
        if (t) drop(c, t);
    }
}

static int load_shard(ckpt *c, const json_t *map, const char *shard, const char *index, parse_fn *parse) {
    int first = c->n_tensors, bad;
    if (!*shard || strchr(shard, '/'))
        return err_set("%s: \"%.80s\" is not the name of a file beside it", index, shard);
    char *path = xasprintf("%s/%s", c->dir, shard);
    if ((bad = load_file(c, path, parse)) && !path_there(path))
        err_set("%s: missing, though %s names it; fetch it again", path, index);
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)map, name, v) {
        if (bad || strcmp(json_string_value(v), shard) || of_shard(c, first, name)) continue;
        bad = err_set("%s: tensor %s is not there, though %s says so; fetch both again", path, name, index);
    }
    if (!bad) drop_others_of_shard(c, map, shard, first);
    free(path);
    return bad;
}

// Loads every file that weight_map names, once.
static int load_shards(ckpt *c, const json_t *root, const char *index, parse_fn *parse) {
    const json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || !json_object_size(map)) return err_set("%s: \"weight_map\" is missing or empty", index);
    json_t *seen = json_object(), *v;
    const char *name;
    int bad = 0;
    json_object_foreach((json_t *)map, name, v) {
        if (bad) break;
        if (!json_is_string(v)) bad = err_set("%s: tensor %s: its file is not a text", index, name);
    }
    json_object_foreach((json_t *)map, name, v) {
        if (bad) break;
        const char *shard = json_string_value(v);
        if (json_object_get(seen, shard)) continue;
        json_object_set_new(seen, shard, json_true());
        bad = load_shard(c, map, shard, index, parse);
    }
    json_decref(seen);
    return bad;
}

static int load_index(ckpt *c, const char *path, parse_fn *parse) {
    json_error_t e;
    size_t n;
    char *text = file_read(path, &n);
    if (!text) return -1;
    const size_t mark = bom_length(text, n);
    json_t *root = json_loadb(text + mark, n - mark, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!root) return err_set("%s: line %d: not valid JSON: %s", path, e.line, e.text);
    int bad = load_shards(c, root, path, parse);
    json_decref(root);
    return bad;
}

// The first form that is there.
static int load_tensors(ckpt *c) {
    static const struct {
        const char *file;
        parse_fn *parse;
        bool index;
    } forms[] = {
        {"model.safetensors", st_parse, false},
        {"model.safetensors.index.json", st_parse, true},
        {"pytorch_model.bin", pt_parse, false},
        {"pytorch_model.bin.index.json", pt_parse, true},
    };
    for (int i = 0; i < 4; i++) {
        char *path = xasprintf("%s/%s", c->dir, forms[i].file);
        bool there = path_there(path);
        int bad = 0;
        if (there) bad = (forms[i].index ? load_index : load_file)(c, path, forms[i].parse);
        free(path);
        if (there) return bad;
    }
    return err_set(
        "%s: no weights: neither model.safetensors nor pytorch_model.bin nor an index.json of shards is there", c->dir);
}

// ---------------------------------------------------------------- tensors against the config
static int by_name(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

void ckpt_shape_text(char out[CKPT_SHAPE], const tensor *t) {
    int n = snprintf(out, CKPT_SHAPE, "[");
    for (int i = 0; i < t->rank; i++)
        n += snprintf(out + n, CKPT_SHAPE - (size_t)n, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    snprintf(out + n, CKPT_SHAPE - (size_t)n, "]");
}

static bool same_shape(const tensor *a, const tensor *b) {
    return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim);
}

static int check_shape(const tensor *t, const tensor *want, const char *dir) {
    char is[CKPT_SHAPE], should[CKPT_SHAPE];
    if (same_shape(t, want)) return 0;
    ckpt_shape_text(is, t);
    ckpt_shape_text(should, want);
    return err_set("%s: tensor %s has shape %s, but config.json asks for %s", dir, t->name, is, should);
}

// tensors (sorted by name) are exactly those of the config. What is missing is named with what has no place: where both
// are there, it is often one tensor under two names.
static int check_tensors(const model_config *config, const tensor *ts, int n, const char *dir) {
    int n_want, bad = 0, i = 0, j = 0;
    tensor *want = arch_tensor_list(config, &n_want);
    const tensor *missing = NULL, *surplus = NULL;
    qsort(want, (size_t)n_want, sizeof *want, by_name);
    for (int k = 1; k < n && !bad; k++)
        if (!strcmp(ts[k].name, ts[k - 1].name)) bad = err_set("%s: tensor %s is there twice", dir, ts[k].name);
    for (; !bad && (i < n_want || j < n);) {
        int order = i == n_want ? 1 : -1;
        if (i < n_want && j < n) order = strcmp(want[i].name, ts[j].name);
        if (order < 0 && !missing) missing = &want[i];
        if (order > 0 && !surplus) surplus = &ts[j];
        if (order == 0 && ts[j].foreign)
            bad = err_set("%s: tensor %s: type %s; only F32, F16 and BF16 can be read; save the model "
                          "in one of them",
                          dir, ts[j].name, ts[j].foreign);
        if (order == 0 && !bad) bad = check_shape(&ts[j], &want[i], dir);
        i += order <= 0;
        j += order >= 0;
    }
    if (!bad && missing && surplus)
        bad = err_set("%s: tensor %s is missing, but config.json asks for it; %s, which is there, has no place", dir,
                      missing->name, surplus->name);
    else if (!bad && missing)
        bad = err_set("%s: tensor %s is missing, but config.json asks for it", dir, missing->name);
    else if (!bad && surplus)
        bad = err_set("%s: tensor %s has no place in the model that config.json describes", dir, surplus->name);
    tensors_free(want, n_want);
    return bad;
}

// ---------------------------------------------------------------- what files hold besides a model's tensors
static bool has_all(const ckpt *c) {
    int n;
    tensor *want = arch_tensor_list(&c->config, &n);
    bool all = true;
    for (int i = 0; i < n && all; i++) all = ckpt_find(c, want[i].name) != NULL;
    tensors_free(want, n);
    return all;
}

// What some files hold besides, without a warning: fairseq's version, frequencies that the configuration gives.
static void drop_others(ckpt *c) {
    static const char frequencies[] = ".rotary_emb.inv_freq";
    for (int i = c->n_tensors - 1; i >= 0; i--) {
        const char *name = c->tensors[i].name, *end = strstr(name, frequencies);
        if (!strcmp(name, "version") || (end && !end[sizeof frequencies - 1])) drop(c, &c->tensors[i]);
    }
}

// Whether a tensor is named as what belongs to a matrix: X.weight_scale or X.SCB where X.weight is there, too.
static bool beside_weight(const ckpt *c, const char *name) {
    const char *at = strstr(name, ".weight"), *end = at ? at : strrchr(name, '.');
    if (!end) return false;
    char *weight = xasprintf("%.*s.weight", (int)(end - name), name);
    const bool there = ckpt_find(c, weight) != NULL;
    free(weight);
    return there;
}

// Tensors whose names no model of the family has (buffers, heads of other tasks) are left out with a warning where
// nothing is missing, as transformers does it. Those that another configuration would have stay, and are refused. So
// are factors of weights where config.json says that these are quantised: without them the weights are other ones.
static int drop_strangers(ckpt *c) {
    const family *f = arch_of(&c->config).family;
    char first[160] = "";
    int n = 0, layer;
    if (!has_all(c)) return 0;
    for (int i = c->n_tensors - 1; i >= 0; i--) {
        if (arch_find(f, c->tensors[i].name, &layer)) continue;
        if (beside_weight(c, c->tensors[i].name) && config_says_quantised(c->dir))
            return err_set("%s: tensor %s is a factor of another", c->dir, c->tensors[i].name);
        snprintf(first, sizeof first, "%s", c->tensors[i].name);
        drop(c, &c->tensors[i]);
        n++;
    }
    if (n)
        log_info("%s: %d tensor%s without a place in the model left out: %s%s", c->dir, n, n == 1 ? "" : "s", first,
                 n == 1 ? "" : ", ..");
    return 0;
}

static void rename_tensor(ckpt *c, const char *from, const char *to) {
    tensor *t = (tensor *)(uintptr_t)ckpt_find(c, from);
    if (!t || ckpt_find(c, to)) return;
    free(t->name);
    t->name = xstrdup(to);
    qsort(c->tensors, (size_t)c->n_tensors, sizeof *c->tensors, by_name);
}

// The head of a tied model is the embedding once more, and may be there alone (safetensors' save_model keeps one of two
// names). A model that is not tied may have another one.
static int check_head(ckpt *c) {
    const family *f = arch_of(&c->config).family;
    rename_tensor(c, "output_projection.weight", f->head);  // fairseq's and metaseq's name
    if (c->config.tied) rename_tensor(c, f->head, f->embedding);
    const tensor *head = ckpt_find(c, f->head), *embed = ckpt_find(c, f->embedding);
    if (!head && !c->config.tied)
        return err_set("%s: \"tie_word_embeddings\" is false in config.json, but there is no %s", c->dir, f->head);
    if (!head || !embed || head->foreign || embed->foreign) return 0;
    const bool same = head->type == embed->type && same_shape(head, embed) &&
                      (head->data == embed->data || !memcmp(head->data, embed->data, tensor_bytes(embed)));
    c->config.own_head = c->config.type == MODEL_OPT && !c->config.tied && !same;
    if (!arch_of(&c->config).tied) return 0;
    if (!same)
        return err_set("%s: %s differs from %s, though the head of this model is tied", c->dir, f->head, f->embedding);
    drop(c, head);
    return 0;
}

// The rows of the embedding are the vocabulary, whatever config.json says: some pad one and not the other.
static void take_rows(ckpt *c) {
    model_config *m = &c->config;
    const tensor *embed = ckpt_find(c, arch_of(m).family->embedding);
    if (!embed || embed->rank != 2 || embed->dim[0] == m->V || embed->dim[0] > 1 << 24) return;
    if (embed->dim[0] <= m->bos || embed->dim[0] <= m->eos || embed->dim[0] <= m->pad) return;
    log_info("%s: the embedding has %lld rows, config.json says %d; the rows count", c->dir, (long long)embed->dim[0],
             m->V);
    m->V = (int)embed->dim[0];
}

static int read_config(ckpt *c) {
    size_t n;
    char *path = xasprintf("%s/config.json", c->dir), *text = file_read(path, &n);
    int bad = text ? model_config_parse(text, n, path, &c->config) : -1;
    free(text);
    free(path);
    return bad;
}

int ckpt_open(ckpt *c, const char *dir) {
    int bad = 0;
    *c = (ckpt){.dir = model_folder(dir)};
    char *file = c->dir ? gguf_find(c->dir, &bad) : NULL;
    if (!c->dir || bad)
        bad = -1;
    else if (file)
        bad = load_gguf(c, file);
    else
        bad = read_config(c) || load_tensors(c);
    free(file);
    if (bad) goto fail;
    fused_split(c);
    qsort(c->tensors, (size_t)c->n_tensors, sizeof *c->tensors, by_name);
    drop_others(c);
    if (check_head(c)) goto fail;
    take_rows(c);
    if (drop_strangers(c) || check_tensors(&c->config, c->tensors, c->n_tensors, c->dir)) {
        config_blame_quantisation(c->dir);
        goto fail;
    }
    for (int i = 0; i < c->n_tensors; i++) c->bytes += tensor_bytes(&c->tensors[i]);
    return 0;
fail:
    ckpt_close(c);
    return -1;
}

void ckpt_close(ckpt *c) {
    tensors_free(c->tensors, c->n_tensors);
    for (int i = 0; i < c->n_maps; i++)
        if (c->maps[i].owned)
            free(c->maps[i].base);
        else
            munmap(c->maps[i].base, c->maps[i].bytes);
    free(c->maps);
    free(c->dir);
    model_config_free(&c->config);
    *c = (ckpt){0};
}

const tensor *ckpt_find(const ckpt *c, const char *name) {
    tensor key = {.name = (char *)name};
    return c->n_tensors ? bsearch(&key, c->tensors, (size_t)c->n_tensors, sizeof key, by_name) : NULL;
}

// ---------------------------------------------------------------- saving
static json_t *header_entry(const tensor *t, size_t begin) {
    static const char *const codes[] = {[DT_F32] = "F32", [DT_F16] = "F16", [DT_BF16] = "BF16"};
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++) json_array_append_new(shape, json_integer(t->dim[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", codes[t->type], "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + tensor_bytes(t)));
}

// tensors in the order of the file: 4-byte elements first, so that every tensor is aligned.
static int write_safetensors(FILE *f, const family *of, fused *all, const tensor **ts, int n) {
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t at = 0;
    for (int i = 0; i < n; at += tensor_bytes(ts[i++])) {
        char *name = xasprintf("%s%s", strcmp(ts[i]->name, of->head) ? of->saved_prefix : "", ts[i]->name);
        json_object_set_new(root, name, header_entry(ts[i], at));
        free(name);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    ASSERT(text);
    const size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) fputc((int)(padded >> 8 * i & 255), f);
    fprintf(f, "%-*s", (int)padded, text);
    int bad = 0;
    for (int i = 0; i < n && !bad; i++) {
        const void *data = fused_data(all, (int)(ts[i] - all->t));
        if (!data)
            bad = -1;
        else if (fwrite(data, 1, tensor_bytes(ts[i]), f) != tensor_bytes(ts[i]))
            break;  // file_out_close says why
    }
    free(text);
    json_decref(root);
    return bad;
}

int ckpt_save(const char *dir, const model_config *config, const tensor *tensors, int n) {
    return ckpt_save_from(dir, config, tensors, n, NULL, NULL);
}

int ckpt_save_from(const char *dir, const model_config *config, const tensor *tensors, int n, tensor_fill *fill,
                   void *ctx) {
    file_out weights = {0}, conf = {0};
    fused all = {0};
    const tensor **order = xcalloc((size_t)n + 1, sizeof *order);
    tensor *sorted = xcalloc((size_t)n + 1, sizeof *sorted);
    char *weights_path = xasprintf("%s/model.safetensors", dir), *conf_path = xasprintf("%s/config.json", dir),
         *text = NULL;
    int bad = -1, m = 0;
    for (int i = 0; i < n; i++) sorted[i] = tensors[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    if (check_tensors(config, sorted, n, dir)) goto done;
    fused_begin(&all, config, sorted, n, fill, ctx);
    for (size_t width = 4; width >= 2; width -= 2)
        for (int i = 0; i < all.n; i++)
            if (dtype_bytes(all.t[i].type) == width) order[m++] = &all.t[i];
    if (mkdir(dir, 0777) && errno != EEXIST) {
        err_set("%s: cannot make the directory: %s", dir, strerror(errno));
        goto done;
    }
    if (file_out_open(&weights, weights_path) || file_out_open(&conf, conf_path)) goto done;
    if (write_safetensors(weights.f, arch_of(config).family, &all, order, all.n)) goto done;
    text = model_config_text(config);
    fputs(text, conf.f);
    bad = file_out_close(&weights) || file_out_close(&conf) ? -1 : 0;
done:
    file_out_abandon(&weights);
    file_out_abandon(&conf);
    free(text);
    fused_end(&all);
    free(weights_path);
    free(conf_path);
    free(sorted);
    free(order);
    return bad;
}
