// pretrain_params - the parameters of a model in training: AdamW, what a killed training resumes from, the checkpoint.
// Contract in pretrain.h.
#include "pretrain.h"
#include "adamw.h"
#include "simd.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t count(const tensor *t) { return (size_t)t->dim[0] * (size_t)(t->rank > 1 ? t->dim[1] : 1); }

int params_new(params *p, const model_config *c, model *trained, model *grad) {
    *p = (params){0};
    p->t = arch_tensor_list(c, &p->n);
    for (int i = 0; i < p->n; i++) p->floats += count(&p->t[i]);
    float **array[] = {&p->w, &p->g, &p->m, &p->v};
    for (int k = 0; k < 4; k++) {
        *array[k] = xaligned(p->floats * sizeof(float));
        memset(*array[k], 0, p->floats * sizeof(float));
    }
    model *to[] = {grad, trained};
    for (int k = 0; k < 2; k++) {
        size_t at = 0;
        for (int i = 0; i < p->n; at += count(&p->t[i++])) p->t[i].data = (k ? p->w : p->g) + at;
        if (model_from_tensors(to[k], c, p->t, p->n) != 0) return -1;
    }
    return 0;
}

void params_free(params *p) {
    float *array[] = {p->w, p->g, p->m, p->v};
    for (int k = 0; k < 4; k++) free(array[k]);
    tensors_free(p->t, p->n);
}

void params_init(params *p, int layers, uint64_t seed) {
    size_t at = 0;
    for (int i = 0; i < p->n; at += count(&p->t[i++])) {
        rng r = rng_make(rng_hash(seed, (uint64_t)i, 0x696e6974));
        int layer;
        const tensor_init init = arch_find(&family_opt, p->t[i].name, &layer)->init;
        const double std = init == INIT_RESIDUAL ? 0.02 / sqrt(2.0 * layers) : 0.02;
        const bool drawn = init == INIT_NORMAL || init == INIT_RESIDUAL;
        for (size_t k = 0; k < count(&p->t[i]); k++)
            p->w[at + k] = drawn ? (float)(std * rng_normal(&r)) : init == INIT_ONE;
    }
}

// parameters of a work item; the gradient's norm adds up pieces in order, whatever the thread count
enum { PIECE = 1 << 16 };

double params_grad_norm(const params *p) {
    const size_t pieces = (p->floats + PIECE - 1) / PIECE;
    double *part = xcalloc(pieces, sizeof *part), sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < pieces; b++)
        for (size_t i = b * PIECE; i < p->floats && i < (b + 1) * PIECE; i++)
            part[b] += (double)p->g[i] * (double)p->g[i];
    for (size_t b = 0; b < pieces; b++) sum += part[b];
    free(part);
    return sqrt(sum);
}

void params_update(params *p, double lr, double decay, double scale, long step) {
    const adamw a = adamw_step(lr, decay, 0.9, 0.95, scale, step);
    size_t at = 0;
    for (int k = 0; k < p->n; at += count(&p->t[k++])) {
        const size_t n = count(&p->t[k]);
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < n; i += PIECE) {
            const size_t from = at + i, some = n - i < PIECE ? n - i : PIECE;
            (p->t[k].rank > 1 ? adamw_update : adamw_update_plain)(&a, p->w + from, p->g + from, p->m + from,
                                                                   p->v + from, some);
        }
    }
}

// ---------------------------------------------------------------- files
typedef struct {
    char magic[8], key[33];
    long step;
    double seconds;
} state_head;

static char *state_path(const char *dir) { return xasprintf("%s/train.state", dir); }

int params_save(const params *p, const char *dir, const char *key, long step, double seconds) {
    char *path = state_path(dir);
    file_out f;
    state_head h = {.magic = "pretrn1", .step = step, .seconds = seconds};
    memcpy(h.key, key, sizeof h.key);
    int bad = file_out_open(&f, path);
    if (!bad) {
        fwrite(&h, sizeof h, 1, f.f);
        const float *array[] = {p->w, p->m, p->v};
        for (int k = 0; k < 3; k++) fwrite(array[k], sizeof(float), p->floats, f.f);
        bad = file_out_close(&f);
    }
    free(path);
    return bad;
}

static int state_read(params *p, FILE *f, const char *path, const char *key, state_head *h) {
    if (fread(h, sizeof *h, 1, f) != 1 || memcmp(h->magic, "pretrn1", 8) != 0)
        return err_set("%s: not a state of pretrain; remove it to begin again", path);
    if (memcmp(h->key, key, sizeof h->key) != 0)
        return err_set("%s: of another text or other options; remove it to begin again, or give the same ones", path);
    float *array[] = {p->w, p->m, p->v};
    for (int k = 0; k < 3; k++)
        if (fread(array[k], sizeof(float), p->floats, f) != p->floats)
            return err_set("%s: truncated; remove it to begin again", path);
    return 0;
}

int params_resume(params *p, const char *dir, const char *key, long *step, double *seconds) {
    char *path = state_path(dir);
    FILE *f = fopen(path, "rb");
    state_head h = {0};
    const int bad = f ? state_read(p, f, path, key, &h) : 0;
    if (f) fclose(f);
    free(path);
    if (bad || !f) return bad;
    *step = h.step;
    *seconds = h.seconds;
    return 1;
}

void params_forget(const char *dir) {
    char *path = state_path(dir);
    remove(path);
    free(path);
}

int params_save_model(const params *p, const model_config *c, const char *dir) {
    tensor *t = xmalloc(sizeof *t * (size_t)p->n);
    size_t at = 0;
    uint16_t *half = xmalloc(sizeof *half * p->floats);
    int bad = 0;
    for (int i = 0; i < p->n; at += count(&p->t[i++])) {
        for (size_t k = 0; k < count(&p->t[i]); k++) {
            if (!bad && !(fabsf(p->w[at + k]) < 65504.0f))
                bad = err_set("%s: weight %zu is %g, outside fp16; use a smaller --lr", p->t[i].name, k,
                              (double)p->w[at + k]);
            half[at + k] = float_to_half(p->w[at + k]);
        }
        t[i] = p->t[i];
        t[i].type = DT_F16;
        t[i].data = half + at;
    }
    bad = bad || ckpt_save(dir, c, t, p->n) ? -1 : 0;
    free(half);
    free(t);
    return bad;
}
