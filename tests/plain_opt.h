// plain_opt - an OPT in double precision, loops straight from the formulas, and the central differences of its loss.
//
// dL/du = (L(u + h) - L(u - h)) / 2h; (H v)_u = (L(+h, +e v) - L(+h, -e v) - L(-h, +e v) + L(-h, -e v)) / 4he.
// Where the step carries any ReLU over its kink the quotient means nothing: the point is skipped and counted.
#pragma once
#include "opt_fixture.h"

// ---------------------------------------------------------------- OPT in double, one sequence
// Everything that the loss depends on in one array theta: the weights in the order of arch_tensor_list, then what is
// added to a, then to z.
typedef struct {
    double *ln1_g, *ln1_b, *wq, *bq, *wk, *bk, *wv, *bv, *wo, *bo, *ln2_g, *ln2_b, *w1, *b1, *w2, *b2, *add_a, *add_z;
} plain_layer;
typedef struct {
    model_config c;
    model_seq s;
    double *theta, *embed, *pos, *proj_in, *proj_out, *lnf_g, *lnf_b;
    plain_layer *layer;
    size_t n_weights, n, *at;  // numbers of weights and of all; where each tensor begins in theta
    uint64_t signs;            // of all z in the last pass, hashed
} plain;

static inline double *plain_find(const plain *p, const tensor *t, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(t[i].name, name) == 0) return p->theta + p->at[i];
    return NULL;  // a configuration without it
}

static inline size_t tensor_count(const tensor *t) { return (size_t)(t->dim[0] * (t->rank > 1 ? t->dim[1] : 1)); }

static inline void plain_make(plain *p, const model_config *c, const tensor *w, int n, const model_seq *s) {
    *p = (plain){.c = *c,
                 .s = *s,
                 .layer = xcalloc((size_t)c->L, sizeof(plain_layer)),
                 .at = xmalloc((size_t)n * sizeof(size_t))};
    for (int i = 0; i < n; i++) p->at[i] = p->n_weights, p->n_weights += tensor_count(&w[i]);
    const size_t layer_a = (size_t)s->n * (size_t)c->E, layer_z = (size_t)s->n * (size_t)c->F;
    p->n = p->n_weights + (size_t)c->L * (layer_a + layer_z);
    p->theta = xcalloc(p->n, sizeof(double));
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < tensor_count(&w[i]); k++) p->theta[p->at[i] + k] = (double)((const float *)w[i].data)[k];
    p->embed = plain_find(p, w, n, "embed_tokens.weight");
    p->pos = plain_find(p, w, n, "embed_positions.weight");
    p->proj_in = plain_find(p, w, n, "project_in.weight");
    p->proj_out = plain_find(p, w, n, "project_out.weight");
    p->lnf_g = plain_find(p, w, n, "final_layer_norm.weight");
    p->lnf_b = plain_find(p, w, n, "final_layer_norm.bias");
    for (int l = 0; l < c->L; l++) {
        plain_layer *at = &p->layer[l];
        const struct {
            const char *name;
            double **to;
        } list[] = {{"self_attn_layer_norm.weight", &at->ln1_g},
                    {"self_attn_layer_norm.bias", &at->ln1_b},
                    {"final_layer_norm.weight", &at->ln2_g},
                    {"final_layer_norm.bias", &at->ln2_b},
                    {"self_attn.q_proj.weight", &at->wq},
                    {"self_attn.q_proj.bias", &at->bq},
                    {"self_attn.k_proj.weight", &at->wk},
                    {"self_attn.k_proj.bias", &at->bk},
                    {"self_attn.v_proj.weight", &at->wv},
                    {"self_attn.v_proj.bias", &at->bv},
                    {"self_attn.out_proj.weight", &at->wo},
                    {"self_attn.out_proj.bias", &at->bo},
                    {"fc1.weight", &at->w1},
                    {"fc1.bias", &at->b1},
                    {"fc2.weight", &at->w2},
                    {"fc2.bias", &at->b2}};
        for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
            char name[80];
            snprintf(name, sizeof name, "layers.%d.%s", l, list[k].name);
            *list[k].to = plain_find(p, w, n, name);
        }
        at->add_a = p->theta + p->n_weights + (size_t)l * layer_a;
        at->add_z = p->theta + p->n_weights + (size_t)c->L * layer_a + (size_t)l * layer_z;
    }
}

static inline void plain_free(plain *p) { free(p->theta), free(p->layer), free(p->at); }

// y [out] = W x + b, W (out, in); b may be NULL
static inline void plain_linear(double *y, const double *x, const double *w, const double *b, int out, int in) {
    for (int o = 0; o < out; o++) {
        double sum = b ? b[o] : 0;
        for (int i = 0; i < in; i++) sum += w[o * in + i] * x[i];
        y[o] = sum;
    }
}

static inline void plain_norm(double *y, const double *x, const double *g, const double *b, int n) {
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / n;
    const double scale = 1 / sqrt(var + 1e-5);
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * scale * g[i] + b[i];
}

// Sum of -log p over the targets of the sequence.
static inline double plain_loss(plain *p) {
    enum { T = 14, E = 24, F = 32, V = 264 };  // the golden models
    const model_config *c = &p->c;
    const int n = p->s.n, D = c->E / c->H;
    double r[T][E], h[T][E], q[T][E], k[T][E], v[T][E], a[T][E], o[E], z[F], y[V], narrow[E];
    ASSERT(n <= T && c->E <= E && c->F <= F && c->V <= V);
    p->signs = 0;
    for (int t = 0; t < n; t++) {
        const double *e = p->embed + p->s.tokens[t] * c->P;
        if (p->proj_in)
            plain_linear(r[t], e, p->proj_in, NULL, c->E, c->P);
        else
            memcpy(r[t], e, (size_t)c->E * sizeof *e);
        for (int i = 0; i < c->E; i++) r[t][i] += p->pos[(t + 2) * c->E + i];
    }
    for (int l = 0; l < c->L; l++) {
        const plain_layer *w = &p->layer[l];
        for (int t = 0; t < n; t++) {
            if (c->pre_ln)
                plain_norm(h[t], r[t], w->ln1_g, w->ln1_b, c->E);
            else
                memcpy(h[t], r[t], sizeof h[t]);
            plain_linear(q[t], h[t], w->wq, w->bq, c->E, c->E);
            plain_linear(k[t], h[t], w->wk, w->bk, c->E, c->E);
            plain_linear(v[t], h[t], w->wv, w->bv, c->E, c->E);
        }
        for (int t = 0; t < n; t++)
            for (int head = 0; head < c->H; head++) {
                double prob[T], sum = 0;
                for (int s = 0; s <= t; s++) {
                    double dot = 0;
                    for (int i = head * D; i < (head + 1) * D; i++) dot += q[t][i] * k[s][i];
                    sum += prob[s] = exp(dot / sqrt(D));
                }
                for (int i = head * D; i < (head + 1) * D; i++) {
                    a[t][i] = w->add_a[t * c->E + i];
                    for (int s = 0; s <= t; s++) a[t][i] += prob[s] / sum * v[s][i];
                }
            }
        for (int t = 0; t < n; t++) {
            plain_linear(o, a[t], w->wo, w->bo, c->E, c->E);
            for (int i = 0; i < c->E; i++) r[t][i] += o[i];
            if (!c->pre_ln) plain_norm(r[t], r[t], w->ln1_g, w->ln1_b, c->E);
            if (c->pre_ln)
                plain_norm(h[t], r[t], w->ln2_g, w->ln2_b, c->E);
            else
                memcpy(h[t], r[t], sizeof h[t]);
            plain_linear(z, h[t], w->w1, w->b1, c->F, c->E);
            for (int j = 0; j < c->F; j++) {
                z[j] += w->add_z[t * c->F + j];
                p->signs = rng_hash(p->signs, z[j] > 0, 0);
                z[j] = fmax(z[j], 0);
            }
            plain_linear(o, z, w->w2, w->b2, c->E, c->F);
            for (int i = 0; i < c->E; i++) r[t][i] += o[i];
            if (!c->pre_ln) plain_norm(r[t], r[t], w->ln2_g, w->ln2_b, c->E);
        }
    }
    double loss = 0;
    for (int t = p->s.targets_from; t < n; t++) {
        const int32_t target = t + 1 < n ? p->s.tokens[t + 1] : p->s.last_target;
        if (target < 0) continue;
        if (p->lnf_g) plain_norm(r[t], r[t], p->lnf_g, p->lnf_b, c->E);
        if (p->proj_out)
            plain_linear(narrow, r[t], p->proj_out, NULL, c->P, c->E);
        else
            memcpy(narrow, r[t], sizeof narrow);
        plain_linear(y, narrow, p->embed, NULL, c->V, c->P);
        double sum = 0;
        for (int i = 0; i < c->V; i++) sum += exp(y[i] - y[target]);
        loss += log(sum);
    }
    return loss;
}

// ---------------------------------------------------------------- central differences
typedef struct {
    size_t taken, skipped;
} tally;

// dL/dtheta[i]; NaN over a kink.
static inline double slope(plain *p, size_t i) {
    const double h = 1e-5, was = p->theta[i];
    p->theta[i] = was + h;
    const double up = plain_loss(p);
    const uint64_t signs = p->signs;
    p->theta[i] = was - h;
    const double down = plain_loss(p);
    p->theta[i] = was;
    return signs == p->signs ? (up - down) / (2 * h) : NAN;
}

// (H u)[i], u [n]; NaN over a kink.
static inline double curvature(plain *p, size_t i, const double *u, double length) {
    const double h = 2e-4, e = h / length, was = p->theta[i];
    double sum = 0;
    uint64_t signs[4];
    double *kept = xmalloc(p->n * sizeof *kept);
    memcpy(kept, p->theta, p->n * sizeof *kept);
    for (int k = 0; k < 4; k++) {
        const double along = k & 1 ? -e : e;
        for (size_t m = 0; m < p->n; m++) p->theta[m] = kept[m] + along * u[m];
        p->theta[i] += k & 2 ? -h : h;
        sum += (k == 0 || k == 3 ? 1 : -1) * plain_loss(p);
        signs[k] = p->signs;
    }
    memcpy(p->theta, kept, p->n * sizeof *kept);
    free(kept);
    ASSERT(p->theta[i] == was);
    return signs[0] == signs[1] && signs[0] == signs[2] && signs[0] == signs[3] ? sum / (4 * h * e) : NAN;
}

// got [n] against want [n], where NaN in want marks a skipped point.
static inline void assert_agree_but_kinks(const char *what, const float *got, const double *want, size_t n, double tol,
                                          tally *seen) {
    float *g = xmalloc(n * sizeof *g);
    double *w = xmalloc(n * sizeof *w);
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(want[i])) g[m] = got[i], w[m++] = want[i];
    seen->taken += m, seen->skipped += n - m;
    if (m) assert_agree(what, g, w, m, tol);
    free(g), free(w);
}

static inline void assert_few_skips(const tally *seen) {
    print_message("           %zu points, %zu skipped next to a kink\n", seen->taken, seen->skipped);
    assert_true(seen->taken > 100 && seen->skipped * 50 <= seen->taken);
}
