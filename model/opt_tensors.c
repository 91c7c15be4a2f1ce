// opt_tensors - names and shapes of all tensors of an OPT configuration, as Hugging Face names them (less "model.decoder.").
#include "opt_tensors.h"
#include <stdlib.h>

int opt_each_weight(opt *m, opt_weight_fn *fn, void *ctx) {
    const opt_config *c = &m->c;
    int bad = fn(ctx, "embed_tokens.weight", c->V, c->P, &m->embed) | fn(ctx, "embed_positions.weight", c->positions + 2, c->E, &m->pos);
    if (c->P != c->E) bad |= fn(ctx, "project_in.weight", c->E, c->P, &m->proj_in) | fn(ctx, "project_out.weight", c->P, c->E, &m->proj_out);
    for (int l = 0; l < c->L && !bad; l++) {
        opt_layer *w = &m->layer[l];
        const int A = opt_units(c, l, OPT_HEADS) * c->D, F = opt_units(c, l, OPT_NEURONS);
        const struct { const char *name; int rows, cols; weight *at; bool bias; } list[] = {
            {"self_attn.q_proj.weight", A, c->E, &w->wq, false}, {"self_attn.q_proj.bias", A, OPT_VECTOR, &w->bq, true},
            {"self_attn.k_proj.weight", A, c->E, &w->wk, false}, {"self_attn.k_proj.bias", A, OPT_VECTOR, &w->bk, true},
            {"self_attn.v_proj.weight", A, c->E, &w->wv, false}, {"self_attn.v_proj.bias", A, OPT_VECTOR, &w->bv, true},
            {"self_attn.out_proj.weight", c->E, A, &w->wo, false}, {"self_attn.out_proj.bias", c->E, OPT_VECTOR, &w->bo, true},
            {"self_attn_layer_norm.weight", c->E, OPT_VECTOR, &w->ln1_g, false}, {"self_attn_layer_norm.bias", c->E, OPT_VECTOR, &w->ln1_b, false},
            {"fc1.weight", F, c->E, &w->w1, false}, {"fc1.bias", F, OPT_VECTOR, &w->b1, true},
            {"fc2.weight", c->E, F, &w->w2, false}, {"fc2.bias", c->E, OPT_VECTOR, &w->b2, true},
            {"final_layer_norm.weight", c->E, OPT_VECTOR, &w->ln2_g, false}, {"final_layer_norm.bias", c->E, OPT_VECTOR, &w->ln2_b, false}};
        for (size_t i = 0; i < sizeof list / sizeof *list && !bad; i++) {
            if (list[i].bias && !c->bias) continue;
            char name[80];
            snprintf(name, sizeof name, "layers.%d.%s", l, list[i].name);
            bad = fn(ctx, name, list[i].rows, list[i].cols, list[i].at);
        }
    }
    if (!bad && c->final_ln) bad = fn(ctx, "final_layer_norm.weight", c->E, OPT_VECTOR, &m->lnf_g) | fn(ctx, "final_layer_norm.bias", c->E, OPT_VECTOR, &m->lnf_b);
    return bad;
}

struct listing { tensor *t; int n, cap; };

static int list_weight(void *ctx, const char *name, int rows, int cols, weight *where) {
    (void)where;
    struct listing *list = ctx;
    tensor t = {.name = xstrdup(name), .type = DT_F32, .rank = cols == OPT_VECTOR ? 1 : 2, .dim = {rows, cols == OPT_VECTOR ? 1 : cols}};
    VEC_PUSH(list->t, list->n, list->cap, t);
    return 0;
}

tensor *opt_tensor_list(const opt_config *c, int *n) {
    opt m = {.c = *c, .layer = xcalloc((size_t)c->L, sizeof(opt_layer))};
    struct listing list = {0};
    opt_each_weight(&m, list_weight, &list);
    free(m.layer);
    *n = list.n;
    return list.t;
}
