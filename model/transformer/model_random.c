// model_random - published shapes and random weights. Contract in model_random.h.
#include "model_random.h"
#include "convert.h"
#include "model_weights.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// P: width of the token embedding; 0: a Pythia, or with K a Llama, of so many KV heads.
static const struct {
    const char *name;
    int L, H, E, F, P, K;
} shapes[] = {{"opt-125m", 12, 12, 768, 3072, 768, 0},      {"opt-350m", 24, 16, 1024, 4096, 512, 0},
              {"opt-1.3b", 24, 32, 2048, 8192, 2048, 0},    {"opt-2.7b", 32, 32, 2560, 10240, 2560, 0},
              {"opt-6.7b", 32, 32, 4096, 16384, 4096, 0},   {"opt-13b", 40, 40, 5120, 20480, 5120, 0},
              {"opt-30b", 48, 56, 7168, 28672, 7168, 0},    {"opt-66b", 64, 72, 9216, 36864, 9216, 0},
              {"opt-175b", 96, 96, 12288, 49152, 12288, 0}, {"pythia-70m", 6, 8, 512, 2048, 0, 0},
              {"pythia-160m", 12, 12, 768, 3072, 0, 0},     {"pythia-410m", 24, 16, 1024, 4096, 0, 0},
              {"pythia-1.4b", 24, 16, 2048, 8192, 0, 0},    {"pythia-2.8b", 32, 32, 2560, 10240, 0, 0},
              {"pythia-6.9b", 32, 32, 4096, 16384, 0, 0},   {"pythia-12b", 36, 40, 5120, 20480, 0, 0},
              {"smollm2-135m", 30, 9, 576, 1536, 0, 3},     {"tinyllama-1.1b", 22, 32, 2048, 5632, 0, 4}};
#define SHAPES                                                                                                         \
    "opt-125m, opt-350m, opt-1.3b, opt-2.7b, opt-6.7b, opt-13b, opt-30b, opt-66b, opt-175b, pythia-70m, pythia-160m, " \
    "pythia-410m, pythia-1.4b, pythia-2.8b, pythia-6.9b, pythia-12b, smollm2-135m, tinyllama-1.1b, or LxHxExFxVxP"
const char model_shape_help[] = "random weights of a published shape: " SHAPES
                                " (an OPT: layers, heads, hidden size, neurons, vocabulary, positions)";

static const model_config an_opt = {.V = 50272,
                                    .positions = 2048,
                                    .pre_ln = true,
                                    .final_ln = true,
                                    .bias = true,
                                    .tied = true,
                                    .bos = 2,
                                    .eos = 2,
                                    .pad = 1};
// A quarter of each head is turned; V as most of them have it.
static const model_config a_pythia = {.type = MODEL_NEOX,
                                      .V = 50304,
                                      .positions = 2048,
                                      .pre_ln = true,
                                      .final_ln = true,
                                      .parallel = true,
                                      .llama = {.act = ACT_GELU,
                                                .norm_eps = 1e-5,
                                                .rope = {.theta = 10000},
                                                .bias_qkv = true,
                                                .bias_out = true,
                                                .bias_ffn = true},
                                      .pad = -1};

// Either of the two has its own vocabulary and head.
static const model_config a_llama = {.type = MODEL_LLAMA,
                                     .V = 32000,
                                     .positions = 2048,
                                     .pre_ln = true,
                                     .final_ln = true,
                                     .llama = {.act = ACT_SILU, .norm_eps = 1e-5, .rope = {.theta = 10000}},
                                     .bos = 1,
                                     .eos = 2,
                                     .pad = -1};

int model_shape(model_config *c, const char *shape) {
    *c = an_opt;
    char end;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !c->L; i++) {
        if (strcmp(shape, shapes[i].name) != 0) continue;
        const bool opt = shapes[i].P > 0, llama = shapes[i].K > 0;
        if (!opt) *c = llama ? a_llama : a_pythia;
        c->L = shapes[i].L, c->H = shapes[i].H, c->E = shapes[i].E, c->F = shapes[i].F;
        c->P = opt ? shapes[i].P : c->E;
        if (opt) c->pre_ln = c->final_ln = c->P == c->E;
        if (!opt && !llama) c->llama.K = c->H, c->rotary = c->E / c->H / 4;
        if (llama) c->llama.K = shapes[i].K;
        if (strcmp(shape, "smollm2-135m") == 0) c->V = 49152, c->tied = true, c->llama.rope.theta = 100000;
    }
    if (!c->L) {
        if (sscanf(shape, "%dx%dx%dx%dx%dx%d%c", &c->L, &c->H, &c->E, &c->F, &c->V, &c->positions, &end) != 6)
            return err_set("%s: not one of %s", shape, SHAPES);
        const int number[] = {c->L, c->H, c->E, c->F, c->V, c->positions};
        for (int i = 0; i < 6; i++)
            if (number[i] < 1 || number[i] > 1 << 24)
                return err_set("%s: the six numbers are layers, heads, hidden size, neurons, vocabulary, positions, "
                               "each from 1 to %d",
                               shape, 1 << 24);
        if (c->E % c->H) return err_set("%s: hidden size %d is no multiple of %d heads", shape, c->E, c->H);
        if (c->V < 4) return err_set("%s: a vocabulary of %d has no room for the special tokens", shape, c->V);
        c->P = c->E;
    }
    c->D = c->E / c->H;
    return 0;
}

static size_t count_of(const tensor *t) { return (size_t)t->dim[0] * (size_t)(t->rank > 1 ? t->dim[1] : 1); }
static size_t padded(const tensor *t) { return (dtype_size(t->type, count_of(t)) + 63) / 64 * 64; }

// The tensors of a configuration, as a model whose weights are of this type keeps them.
static tensor *list_tensors(const model_config *c, dtype type, const ops *o, int *n) {
    const family *f = arch_of(c).family;
    const bool blocks = dtype_in_blocks(type);
    tensor *t = arch_tensor_list(c, n);
    for (int i = 0; i < *n; i++) {
        int layer;
        const tensor_spec *s = arch_find(f, t[i].name, &layer);
        const weight_form form = blocks ? model_weight_form(c, s, DT_F32, type, o) : (weight_form){.type = type};
        t[i].type = form.type;
        t[i].turned = form.turned;
    }
    return t;
}

size_t model_random_bytes(const model_config *c, dtype type) {
    int n;
    tensor *t = list_tensors(c, type, ops_cpu(), &n);
    size_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += padded(&t[i]);
    tensors_free(t, n);
    return bytes;
}

// The numbers of tensor i, in the memory of a device: standard deviation 0.02, gains 1, biases 0.
typedef struct {
    const model_random *r;
    const family *family;
    const ops *o;
    uint64_t seed;
} filler;

static void fill(const filler *f, int i, void *to, dtype type, size_t count) {
    const tensor *t = &f->r->t[i];
    if (t->rank > 1) {
        f->o->random(to, type, count, 0.01 * sqrt(12), rng_hash(f->seed, (uint64_t)i, 0x776569676874));
        return;
    }
    float *w = xmalloc(count * sizeof *w);
    void *narrow = xmalloc(count * sizeof *w);
    int layer;
    const bool one = arch_find(f->family, t->name, &layer)->init == INIT_ONE;
    for (size_t k = 0; k < count; k++) w[k] = one ? 1 : 0;
    dtype_narrow(narrow, type, w, count);
    f->o->put(to, narrow, dtype_size(type, count));
    free(narrow);
    free(w);
}

static void fill_named(void *ctx, const char *name, void *to, dtype type, size_t n) {
    const filler *f = ctx;
    int i = 0;
    while (strcmp(f->r->t[i].name, name) != 0) i++;
    fill(f, i, to, type, n);
}

// On the CPU the tensors are in one block of host memory; elsewhere nothing is: a model may be larger than the host.
int model_random_make(model_random *r, const model_config *c, dtype type, uint64_t seed, const ops *o) {
    *r = (model_random){0};
    if (model_check_weights(c, type, o) != 0) return -1;
    const filler f = {r, arch_of(c).family, o, seed};
    model_config stored = *c;
    stored.declared = dtype_in_blocks(type) ? DT_F32 : type;
    r->t = list_tensors(c, type, o, &r->n);
    for (int i = 0; i < r->n; i++) r->bytes += padded(&r->t[i]);
    if (o->host) {
        char *at = r->block = xaligned(r->bytes);
        for (int i = 0; i < r->n; at += padded(&r->t[i++])) {
            r->t[i].data = at;
            fill(&f, i, at, r->t[i].type, count_of(&r->t[i]));
        }
    }
    if ((o->host ? model_from_tensors_on(&r->m, &stored, r->t, r->n, o)
                 : model_filled_on(&r->m, &stored, r->t, r->n, o, fill_named, (void *)(uintptr_t)&f)) == 0)
        return 0;
    model_random_free(r);
    return -1;
}

void model_random_free(model_random *r) {
    model_free(&r->m);
    if (r->t) tensors_free(r->t, r->n);
    free(r->block);
    *r = (model_random){0};
}
