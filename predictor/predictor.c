// predictor - reading, writing and placing the nets of one criterion. Contracts in predictor.h and nets.h;
// predictor_score.c runs them.
#include "nets.h"
#include "convert.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const predictor_design_names[] = {"shadow", "dejavu", "dejavu-lowrank", "sequence", NULL};
const char *const predictor_states[] = {"head_output", "residual", "residual_mid", NULL};

void predictor_shape(net *n, const predictor_info *a, unit_kind kind) {
    const int units = predictor_units(a, kind) * (a->per_layer ? 1 : a->L);
    static const net_kind of[] = {[PREDICTOR_LOWRANK] = NET_PAIR, [PREDICTOR_SEQUENCE] = NET_POOL};  // others: NET_MLP
    const int in = a->design == PREDICTOR_SEQUENCE ? a->E : predictor_width(a, a->state[kind]);
    net_shape(n, of[a->design], in, a->hidden[kind], units);
}

static size_t count_floats(const predictor *p) {
    size_t floats = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; i++) floats += p->net[k][i].floats;
    return floats;
}

static size_t count_bytes(const predictor *p, dtype type) {
    size_t bytes = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; i++) bytes += net_bytes(&p->net[k][i], type);
    return bytes;
}

// The nets find their weights in the block of all.
static void bind(predictor *p) {
    size_t at = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; i++) {
            net *n = &p->net[k][i];
            n->w = p->w ? p->w + at / sizeof *p->w : NULL;
            n->narrow = p->narrow ? (const char *)p->narrow + at : NULL;
            n->type = p->about.weights;
            at += net_bytes(n, n->type);
        }
}

// Shapes, no memory of weights.
static predictor *shaped(const predictor_info *what) {
    predictor *p = xcalloc(1, sizeof *p);
    p->o = ops_cpu();
    p->about = *what;
    p->about.criterion = p->criterion = xstrdup(what->criterion ? what->criterion : "");
    p->n = what->per_layer ? what->L - what->lag : 1;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!what->has[k]) continue;
        p->net[k] = xcalloc((size_t)p->n, sizeof *p->net[k]);
        for (int i = 0; i < p->n; i++) predictor_shape(&p->net[k][i], what, k);
        net_work_new(&p->work[k], p->o, &p->net[k][0], 1, false);
    }
    return p;
}

// With memory, no values.
static predictor *make(const predictor_info *what) {
    predictor *p = shaped(what);
    p->w = p->o->alloc(count_floats(p) * sizeof *p->w);
    bind(p);
    return p;
}

static uint64_t net_seed(uint64_t seed, unit_kind kind, int i) { return rng_hash(seed, (uint64_t)kind, (uint64_t)i); }

predictor *predictor_new(const predictor_info *what, uint64_t seed) {
    predictor *p = make(what);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; i++) net_init(&p->net[k][i], net_seed(seed, k, i));
    predictor_hash(p);
    return p;
}

// Its nets' numbers, for which `numbers` stands, and its description.
static void describe(predictor *p, const char *numbers) {
    const predictor_info *a = &p->about;
    char *text =
        xasprintf("%s %s %d %d %d %d %d/%d %d %d %d %d %d %d %d %s", numbers, predictor_design_names[a->design],
                  a->per_layer, a->target_layer, (int)a->mode, a->lag, a->from, a->state[UNIT_HEADS],
                  a->state[UNIT_NEURONS], a->L, a->H, a->E, a->F, a->has[UNIT_HEADS] ? a->hidden[UNIT_HEADS] : 0,
                  a->has[UNIT_NEURONS] ? a->hidden[UNIT_NEURONS] : 0, a->criterion);
    hash_bytes(p->about.hash, text, strlen(text));
    free(text);
}

// Room on a device for the weights and for predictions. 0, or -1 and err_set.
static int plan(const predictor *p, const ops *o) {
    const size_t arrays = 16;
    if (dtype_in_blocks(p->about.weights) && !o->host)
        return err_set("--predictor-weights q8_0: not on %s; weights in blocks are read by the CPU only", o->device);
    size_t bytes[OPS_PARTS] = {count_bytes(p, p->about.weights) + 256 * arrays};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) bytes[0] += p->net[k] ? net_work_bytes(p->net[k], 1, 0) : 0;
    if (ops_plan(o, bytes, "a predictor's nets") != 0) return -1;
    o->use(0);
    return 0;
}

// From here on the weights are in this block of a device's memory.
static void settle(predictor *p, void *block, const ops *o) {
    const bool narrow = p->about.weights != DT_F32;
    p->narrow = narrow ? block : NULL;
    p->w = narrow ? NULL : block;
    p->o = o;
    bind(p);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!p->net[k]) continue;
        net_work_free(&p->work[k]);
        net_work_new(&p->work[k], o, p->net[k], 1, false);
    }
}

static void draw(const net *n, char *to, dtype type, uint64_t seed, const ops *o) {
    for (int i = 0; i < n->n; i++)
        if (net_bound(n, i) > 0)
            o->random(to + n->t[i].at * dtype_bytes(type), type, (size_t)n->t[i].rows * (size_t)n->t[i].cols,
                      net_bound(n, i), net_key(seed, i));
}

predictor *predictor_new_on(const predictor_info *what, uint64_t seed, dtype type, const ops *o) {
    predictor *p = shaped(what);
    p->about.weights = type;
    if (plan(p, o) != 0) {
        predictor_close(p);
        return NULL;
    }
    char *block = o->alloc(count_bytes(p, type)), *at = block;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; at += p->net[k][i++].floats * dtype_bytes(type))
            draw(&p->net[k][i], at, type, net_seed(seed, k, i), o);
    settle(p, block, o);
    char *numbers = xasprintf("seed %llu on %s", (unsigned long long)seed, o->host ? "cpu" : "cuda");
    describe(p, numbers);
    free(numbers);
    return p;
}

void predictor_close(predictor *p) {
    if (!p) return;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        free(p->net[k]);
        net_work_free(&p->work[k]);
    }
    free(p->criterion);
    p->o->release(p->w);
    p->o->release(p->narrow);
    free(p);
}

const predictor_info *predictor_about(const predictor *p) { return &p->about; }

int predictor_narrow(predictor *p, dtype type) {
    const size_t floats = count_floats(p);
    if (type == p->about.weights) return 0;
    ASSERT(p->about.weights == DT_F32 && p->o->host);
    for (size_t i = 0; i < floats && type == DT_F16; i++)
        if (!(fabsf(p->w[i]) < 65520))
            return err_set("a weight of the predictor of %s is %g, beyond the range of fp16; take bf16 or fp32",
                           p->criterion, (double)p->w[i]);
    for (size_t i = 0; i < floats && type == DT_Q8_0; i++)
        if (!(fabsf(p->w[i]) < 127 * 65504.0f))
            return err_set("a weight of the predictor of %s is %g, beyond what a Q8_0 block holds; take bf16 or fp32",
                           p->criterion, (double)p->w[i]);
    char *at = p->narrow = p->o->alloc(count_bytes(p, type));
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; p->net[k] && i < p->n; at += net_bytes(&p->net[k][i++], type)) net_put(at, &p->net[k][i], type);
    p->o->release(p->w);
    p->w = NULL;
    p->about.weights = type;
    bind(p);
    return 0;
}

int predictor_place(predictor *p, const ops *o) {
    if (p->o == o) return 0;
    ASSERT(p->o->host);
    if (plan(p, o) != 0) return -1;
    const size_t bytes = count_bytes(p, p->about.weights);
    void *from = p->narrow ? p->narrow : (void *)p->w, *to = o->alloc(bytes);
    o->put(to, from, bytes);
    p->o->release(from);
    settle(p, to, o);
    return 0;
}

const ops *predictor_on(const predictor *p) { return p->o; }

// ---------------------------------------------------------------- file
char *predictor_group(const predictor_info *a, const char *criterion, unit_kind kind, int layer) {
    return a->per_layer ? xasprintf("/predictors/%s/%s/layer_%03d", criterion, unit_names[kind], layer)
                        : xasprintf("/predictors/%s/%s", criterion, unit_names[kind]);
}

void predictor_hash(predictor *p) {
    char weights[33];
    hash_bytes(weights, p->w, count_floats(p) * sizeof *p->w);
    describe(p, weights);
}

int predictor_put_about(store *s, const predictor_info *a, const char *model_hash) {
    const struct {
        const char *key;
        double value;
    } number[] = {{"per_layer", a->per_layer},
                  {"lag", a->lag},
                  {"from_layer", a->from},
                  {"layers", a->L},
                  {"heads", a->H},
                  {"width", a->E},
                  {"neurons", a->F}};
    int bad = store_put_text(s, "/", "model_hash", model_hash) ||
              store_put_text(s, "/", "design", predictor_design_names[a->design]) ||
              store_put_text(s, "/", "target", a->target_layer ? "layer" : "global") ||
              store_put_text(s, "/", "mode", mode_names[a->mode]);
    for (size_t i = 0; !bad && i < sizeof number / sizeof *number; i++)
        bad = store_put_number(s, "/", number[i].key, number[i].value);
    if (!bad && a->A) bad = store_put_number(s, "/", "head_width", a->A);
    return bad ? -1 : 0;
}

int predictor_put(store *s, const predictor *p) {
    const predictor_info *a = &p->about;
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        for (int i = 0; !bad && p->net[k] && i < p->n; i++) {
            char *group = predictor_group(a, a->criterion, k, i + predictor_first(a));
            for (int j = 0; !bad && j < p->net[k][i].n; j++) {
                const net_tensor *t = &p->net[k][i].t[j];
                const long dim[2] = {t->rows, t->cols};
                char *name = xasprintf("%s/%s", group, t->name);
                bad = store_put_plain(s, name, t->cols == 1 && strstr(t->name, "bias") ? 1 : 2, dim,
                                      p->net[k][i].w + t->at);
                free(name);
            }
            free(group);
        }
        if (bad || !p->net[k]) continue;
        char *group = xasprintf("/predictors/%s/%s", a->criterion, unit_names[k]);
        bad = store_put_number(s, group, "hidden", a->hidden[k]) ||
              store_put_text(s, group, "state", predictor_states[a->state[k]]);
        free(group);
    }
    char *group = xasprintf("/predictors/%s", a->criterion);
    if (!bad) bad = store_put_text(s, group, "hash", a->hash);
    free(group);
    return bad ? -1 : 0;
}

// An attribute's place in a list of names, or -1 and err_set.
static int choice(const store *s, const char *object, const char *key, const char *const *names) {
    char *text = store_attr(s, object, key);
    int at = -1;
    for (int i = 0; text && names[i] && at < 0; i++)
        if (strcmp(text, names[i]) == 0) at = i;
    if (at < 0)
        err_set("%s: attribute %s of %s is %s, which this program does not know", store_path(s), key, object,
                text ? text : "missing");
    free(text);
    return at;
}

static int number(const store *s, const char *object, const char *key, int least, int most, int *out) {
    char *text = store_attr(s, object, key), *end = text;
    const double x = text ? strtod(text, &end) : NAN;
    const bool ok = text && end != text && !*end && x >= least && x <= most && x == floor(x);
    if (!ok)
        err_set("%s: attribute %s of %s is %s, not a whole number of %d..%d", store_path(s), key, object,
                text ? text : "missing", least, most);
    else
        *out = (int)x;
    free(text);
    return ok ? 0 : -1;
}

static int read_about(const store *s, predictor_info *a, const char *criterion) {
    static const char *const targets[] = {"global", "layer", NULL};
    const int design = choice(s, "/", "design", predictor_design_names), target = choice(s, "/", "target", targets),
              mode = choice(s, "/", "mode", mode_names);
    int per_layer;
    char *wide = store_attr(s, "/", "head_width");  // only where it is not the model's
    const bool has_width = wide != NULL;
    free(wide);
    if (has_width && number(s, "/", "head_width", 1, 1 << 20, &a->A)) return -1;
    if (design < 0 || target < 0 || mode < 0 || number(s, "/", "layers", 1, 1 << 16, &a->L) ||
        number(s, "/", "heads", 1, 1 << 16, &a->H) || number(s, "/", "width", 1, 1 << 20, &a->E) ||
        number(s, "/", "neurons", 1, 1 << 24, &a->F) || number(s, "/", "per_layer", 0, 1, &per_layer) ||
        number(s, "/", "lag", 0, a->L - 1, &a->lag) || number(s, "/", "from_layer", 0, a->L - 1, &a->from))
        return -1;
    a->design = (predictor_design)design;
    a->target_layer = target == 1;
    a->mode = (mode_kind)mode;
    a->per_layer = per_layer == 1;
    a->criterion = criterion;
    if (a->per_layer != (a->design == PREDICTOR_DEJAVU || a->design == PREDICTOR_LOWRANK))
        return err_set("%s: attribute per_layer does not fit the design", store_path(s));
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        char *group = xasprintf("/predictors/%s/%s", criterion, unit_names[k]);
        int state = 0;
        if ((a->has[k] = store_has(s, group)) && (number(s, group, "hidden", 1, 1 << 20, &a->hidden[k]) ||
                                                  (state = choice(s, group, "state", predictor_states)) < 0)) {
            free(group);
            return -1;
        }
        a->state[k] = (model_state)state;
        free(group);
    }
    return a->has[UNIT_HEADS] || a->has[UNIT_NEURONS]
               ? 0
               : err_set("%s: /predictors/%s has neither heads nor neurons", store_path(s), criterion);
}

static int read_net(const store *s, const predictor *p, unit_kind kind, int i) {
    const net *n = &p->net[kind][i];
    char *group = predictor_group(&p->about, p->criterion, kind, i + predictor_first(&p->about));
    int bad = 0;
    for (int j = 0; !bad && j < n->n; j++) {
        const net_tensor *t = &n->t[j];
        char *name = xasprintf("%s/%s", group, t->name);
        long dim[3];
        const int rank = store_shape(s, name, dim);
        if (rank < 0)
            bad = -1;
        else if (rank < 1 || rank > 2 || dim[0] != t->rows || dim[1] != t->cols)
            bad = err_set("%s: %s is [%ld, %ld], want [%d, %d]; the file is damaged", store_path(s), name, dim[0],
                          dim[1], t->rows, t->cols);
        else
            bad = store_read(s, name, 0, t->rows, n->w + t->at);
        free(name);
    }
    free(group);
    return bad;
}

// The criterion asked for, or the only one; NULL and err_set.
static char *find_criterion(const store *s, const char *criterion) {
    int n;
    char **names = store_list(s, "/predictors", &n), list[512] = "", *found = NULL;
    for (int i = 0; i < n; i++) {
        snprintf(list + strlen(list), sizeof list - strlen(list), " %s", names[i]);
        if (criterion ? strcmp(names[i], criterion) == 0 : n == 1) found = xstrdup(names[i]);
    }
    if (!found && criterion)
        err_set("%s: no predictor of criterion %s; there are:%s", store_path(s), criterion, n ? list : " none");
    else if (!found)
        err_set("%s: holds predictors of%s; name a criterion", store_path(s), n ? list : " none");
    free(names);
    return found;
}

char **predictor_criteria(const char *path, int *n) {
    store *s = store_open_as(path, PREDICTOR_FORMAT, "bin/train");
    char **names = s ? store_list(s, "/predictors", n) : NULL;
    store_close(s);
    return names;
}

predictor *predictor_open(const char *path, const char *criterion, const model *m) {
    store *s = store_open_as(path, PREDICTOR_FORMAT, "bin/train");
    if (!s) return NULL;
    predictor_info a = {0};
    predictor *p = NULL;
    char *of_model = store_attr(s, "/", "model_hash"), *name = find_criterion(s, criterion),
         *group = xasprintf("/predictors/%s", name ? name : ""), *hash = store_attr(s, group, "hash");
    int bad = !name || read_about(s, &a, name) ? -1 : 0;
    if (!bad && (a.L != m->c.L || a.H != m->c.H || a.E != m->c.E ||
                 predictor_width(&a, STATE_HEAD_OUTPUT) != m->c.H * m->c.D || a.F != m->c.F))
        bad = err_set(
            "%s: of a model of %d layers, %d heads, width %d, %d neurons, not %d, %d, %d, %d; train one for this model",
            path, a.L, a.H, a.E, a.F, m->c.L, m->c.H, m->c.E, m->c.F);
    if (!bad && (!of_model || strcmp(of_model, m->file.hash) != 0))
        bad = err_set("%s: of another model (hash %.8s, not %.8s); train one for this model", path,
                      of_model ? of_model : "missing", m->file.hash);
    if (!bad) {
        p = make(&a);
        memset(p->w, 0, count_floats(p) * sizeof *p->w);
        for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++)
            for (int i = 0; !bad && p->net[k] && i < p->n; i++) bad = read_net(s, p, k, i);
        predictor_hash(p);
        if (!bad && (!hash || strcmp(hash, p->about.hash) != 0))
            bad = err_set("%s: the nets of %s are not those that were written (hash differs); the file is damaged",
                          path, name);
    }
    if (bad) {
        predictor_close(p);
        p = NULL;
    }
    free(hash);
    free(group);
    free(name);
    free(of_model);
    store_close(s);
    return p;
}

// ---------------------------------------------------------------- cost
void predictor_cost(const predictor *p, double macs[UNIT_KINDS], double bytes[UNIT_KINDS]) {
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        macs[k] = bytes[k] = 0;
        for (int i = 0; p->net[k] && i < p->n; i++) {
            macs[k] += net_macs(&p->net[k][i], 1);
            for (int j = 0; j < p->net[k][i].n; j++)
                bytes[k] += (double)dtype_size(net_tensor_type(&p->net[k][i], j, p->about.weights),
                                               (size_t)p->net[k][i].t[j].rows * (size_t)p->net[k][i].t[j].cols);
        }
    }
}

void predictor_cost_of(const predictor_info *what, double macs[2], double bytes[2]) {
    predictor *p = shaped(what);
    predictor_cost(p, macs, bytes);
    predictor_close(p);
}
