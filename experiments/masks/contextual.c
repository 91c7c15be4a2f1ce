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
        if (one_net(p) ? layer != p->from : of >= c->m->c.L || (c->out && of < c->rule->dense_layers)) continue;
        const double start = clock_s();
        predictor_score(c->p, k, of, x, c->raw, scores_of(c, k, of));
        c->predict_s += clock_s() - start;
        choose(c, k, of);
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
    if (c->m) c->m->o->release(c->score);
    *c = (contextual){0};
}

void contextual_begin(contextual *c, const int32_t *tokens, int n, int row, mask *out, const mask_rule *rule) {
    c->watch.row = row;
    c->watch.self = c;
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

int contextual_end(contextual *c) { return c->bad ? -1 : 0; }

int contextual_mask(contextual *c, mask *out, const mask_rule *rule) {
    const double start = clock_s();
    const int bad = mask_make_on(out, &c->m->c, c->m->o, c->score, rule);
    c->select_s += clock_s() - start;
    return bad;
}
