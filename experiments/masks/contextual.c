// contextual - a predictor that watches a pass and makes its mask. Contract in contextual.h.
#include "contextual.h"
#include <string.h>

const char *const contextual_feature_names[] = {"early", "stream", "dense"};

static bool one_net(const predictor_info *p) {
    return p->design == PREDICTOR_SHADOW || p->design == PREDICTOR_SEQUENCE;
}

// The first layer whose units of a kind have not run when a state of `layer` is seen.
static int first_open(model_state state, unit_kind kind, int layer) {
    return kind == UNIT_NEURONS || state == STATE_RESIDUAL ? layer : layer + 1;
}

contextual_features contextual_kind(const predictor_info *p, const mask_rule *rule) {
    contextual_features worst = FEATURES_EARLY;
    if (p->design == PREDICTOR_SEQUENCE) return worst;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!mask_rule_prunes(rule, k)) continue;
        contextual_features f;
        if (one_net(p)) {
            // a net for all layers reads layer `from`: nothing before that state, nor in its layer, may be pruned by
            // its own prediction
            f = first_open(p->state[k], k, p->from) <= rule->dense_layers && p->from <= rule->dense_layers
                    ? FEATURES_EARLY
                    : FEATURES_DENSE;
        } else
            f = rule->scope == SCOPE_LOCAL && first_open(p->state[k], k, 0) <= p->lag ? FEATURES_STREAM
                                                                                      : FEATURES_DENSE;
        if (f > worst) worst = f;
    }
    return worst;
}

bool contextual_raw(const predictor_info *p, const mask_rule *rule) {
    return rule->mode == MODE_COMPAT && p->design == PREDICTOR_DEJAVU && rule->scope != SCOPE_LOCAL;
}

int contextual_check(const predictor_info *p, const mask_rule *rule) {
    if (rule->mode == MODE_COMPAT && p->mode == MODE_SOUND)
        return err_set("the predictor was trained on sound scores; compat masks need one trained with --mode compat");
    if (rule->mode == MODE_SOUND && p->mode == MODE_COMPAT)
        return err_set("the predictor was trained on compat scores; it makes masks in --mode compat only");
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (mask_rule_prunes(rule, k) && !p->has[k])
            return err_set("the predictor of %s has no nets for %s; --units %s, or train one that has", p->criterion,
                           unit_names[k], unit_names[1 - k]);
    if (!one_net(p) && p->lag > rule->dense_layers)
        return err_set("the %s predictor looks %d layer%s ahead, so the first %s no net; --dense-layers %d or more",
                       predictor_design_names[p->design], p->lag, p->lag == 1 ? "" : "s",
                       p->lag == 1 ? "layer has" : "layers have", p->lag);
    return 0;
}

// ---------------------------------------------------------------- predicting
static int units_of(const contextual *c, unit_kind kind) { return model_all_units(&c->m->c, kind); }
static float *scores_of(contextual *c, unit_kind kind, int layer) {
    return c->score + (kind == UNIT_NEURONS ? (size_t)c->m->c.L * (size_t)c->m->c.H : 0) +
           (size_t)(layer < 0 ? 0 : layer) * (size_t)units_of(c, kind);
}

// Scores of one kind have come, of all layers (layer < 0) or of one: into the mask, if it is written now.
static void choose(contextual *c, unit_kind kind, int layer) {
    if (c->puts) {
        const float *score = scores_of(c, kind, layer);
        if (layer < 0)
            mask_put_kind(&c->there, &c->whole, c->wrong, &c->m->c, kind, c->m->o, score, c->rule);
        else
            mask_put_layer(&c->there, c->wrong, &c->m->c, kind, layer, c->m->o, score, c->rule);
    }
    if (!c->out) return;
    const double start = clock_s();
    const float *score = scores_of(c, kind, layer);
    c->bad |= (layer < 0 ? mask_make_kind(c->out, &c->m->c, kind, c->m->o, score, c->rule)
                         : mask_make_layer(c->out, &c->m->c, kind, layer, c->m->o, score, c->rule)) != 0;
    c->select_s += clock_s() - start;
}

static void see(void *self, model_state state, int layer, const float *x) {
    contextual *c = self;
    const predictor_info *p = predictor_about(c->p);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!(c->units & 1u << k) || p->state[k] != state) continue;
        const int of = one_net(p) ? -1 : layer + p->lag;
        if (one_net(p) ? layer != p->from : of >= c->m->c.L || ((c->out || c->puts) && of < c->rule->dense_layers))
            continue;
        const double start = clock_s();
        if (c->puts) c->m->o->aside((int)k);
        predictor_score(c->p, k, of, x, c->raw, scores_of(c, k, of));
        c->predict_s += clock_s() - start;
        choose(c, k, of);
        if (!c->puts) continue;
        c->watch.read[k] = predictor_read(c->p, k);
        c->watch.ready[k] = of < 0 ? c->m->c.L : of + 1;
        c->m->o->back();
    }
}

void contextual_open(contextual *c, predictor *p, const model *m, unsigned units, bool raw) {
    const predictor_info *info = predictor_about(p);
    const size_t heads = (size_t)m->c.L * (size_t)m->c.H, neurons = (size_t)m->c.L * (size_t)m->c.F;
    *c = (contextual){.p = p, .m = m, .units = units, .raw = raw};
    ASSERT(predictor_on(p) == m->o);
    m->o->use(0);
    c->score = m->o->alloc((heads + neurons) * sizeof *c->score);
    c->watch = (model_watch){.see = see, .self = c};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!(units & 1u << k)) continue;
        ASSERT(info->has[k]);
        if (info->design != PREDICTOR_SEQUENCE) c->watch.states |= 1u << info->state[k];
    }
}

void contextual_close(contextual *c) {
    void *const all[] = {c->score, c->there.heads, c->whole.heads, c->wrong};
    for (size_t i = 0; c->m && i < sizeof all / sizeof *all; i++)
        if (all[i]) c->m->o->release(all[i]);
    if (c->m) c->m->o->fetch_free(c->late);
    *c = (contextual){0};
}

void contextual_begin(contextual *c, const int32_t *tokens, int n, int row, mask *out, const mask_rule *rule) {
    c->watch.row = row;
    c->watch.self = c;
    c->watch.records = c->puts = false;
    c->watch.after = NULL;
    c->out = out;
    c->rule = rule;
    c->bad = false;
    if (out) {
        ASSERT(rule && contextual_kind(predictor_about(c->p), rule) != FEATURES_DENSE);
        mask_fill(out, &c->m->c);
    }
    if (predictor_about(c->p)->design != PREDICTOR_SEQUENCE) return;
    float *score[UNIT_KINDS] = {NULL};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (c->units & 1u << k) score[k] = scores_of(c, k, -1);
    const double start = clock_s();
    predictor_score_context(c->p, c->m, tokens, n, score);
    c->predict_s += clock_s() - start;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (score[k]) choose(c, k, -1);
}

int contextual_end(contextual *c) {
    if (c->puts) {
        c->m->o->fetch_wait(c->late);
        if (*c->was_wrong) return err_set("a predicted score is NaN or infinite; units cannot be ranked by it");
    }
    return c->bad ? -1 : 0;
}

// ---------------------------------------------------------------- masks that stay on the device
static size_t units_in_all(const model_config *c) {
    return (size_t)c->L * ((size_t)model_all_units(c, UNIT_HEADS) + (size_t)model_all_units(c, UNIT_NEURONS));
}

static mask room_there(const model *m) {
    uint8_t *block = m->o->alloc(units_in_all(&m->c));
    return (mask){block, block + (size_t)m->c.L * (size_t)m->c.H};
}

bool contextual_place(contextual *c, const mask_rule *rule) {
    const model *m = c->m;
    const predictor_info *about = predictor_about(c->p);
    if (m->o->host || !m->transposed[0] || about->design == PREDICTOR_SEQUENCE || !mask_fits_device(rule) ||
        contextual_kind(about, rule) == FEATURES_DENSE)
        return false;
    mask all;
    m->o->use(0);
    c->there = room_there(m);
    c->whole = room_there(m);
    c->wrong = m->o->alloc(sizeof *c->wrong);
    c->late = m->o->fetch_new(fetch_room(sizeof *c->wrong));
    mask_alloc(&all, &m->c);
    m->o->put(c->whole.heads, all.heads, units_in_all(&m->c));
    mask_free(&all);
    return true;
}

void contextual_set_there(contextual *c, const mask *m) {
    c->m->o->put(c->there.heads, m->heads, units_in_all(&c->m->c));
    c->m->o->zero(c->wrong, sizeof *c->wrong);
}

void contextual_get_there(const contextual *c, mask *m) {
    c->m->o->get(m->heads, c->there.heads, units_in_all(&c->m->c));
}

static void after(void *self) {
    contextual *c = self;
    c->was_wrong = c->m->o->fetch(c->late, c->wrong, sizeof *c->wrong);
}

void contextual_begin_there(contextual *c, const mask_rule *rule) {
    c->watch.row = 0;
    c->watch.self = c;
    c->watch.records = c->puts = true;
    c->watch.after = after;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        c->watch.ready[k] = c->units & 1u << k ? rule->dense_layers : c->m->c.L;
        c->watch.read[k] = 0;
    }
    c->out = NULL;
    c->rule = rule;
    c->bad = false;
}

int contextual_mask(contextual *c, mask *out, const mask_rule *rule) {
    const double start = clock_s();
    const int bad = mask_make_on(out, &c->m->c, c->m->o, c->score, rule);
    c->select_s += clock_s() - start;
    return bad;
}
