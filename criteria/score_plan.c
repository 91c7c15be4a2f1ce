// score_plan - which datasets, what a store already holds of them, and in which batches the rest is computed.
#include "score.h"
#include "moments.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- what must agree with an old store
static const char whole_part[] = "1/1";  // attribute of a store of all documents

static void fixed(score_job *j, const char *key, bool number, char *value) {
    VEC_PUSH(j->attr, j->n_attr, j->cap_attr, ((score_attr){key, value, number}));
}

static char *list_text(const int *list, int n) {
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = 0; i < n; i++) fprintf(f, i ? ",%d" : "%d", list[i]);
    fclose(f);
    return text;
}

static void fix_attributes(score_job *j) {
    const model_config *c = &j->model->c;
    char part[DOC_PART_TEXT];
    doc_part_text(part, j->part);
    fixed(j, "model_hash", false, xstrdup(j->model->file.hash));
    fixed(j, "tokenizer_hash", false, xstrdup(tok_hash(j->tok)));
    fixed(j, "mode", false, xstrdup(j->mode[MODE_SOUND] && j->mode[MODE_COMPAT] ? "both" : mode_names[j->texts]));
    fixed(j, "seed", true, xasprintf("%ld", j->o.seed));
    fixed(j, "part", false, xstrdup(j->part.n ? part : whole_part));
    fixed(j, "shots", true, xasprintf("%ld", j->o.shots));
    fixed(j, "bos", true, xasprintf("%d", j->harness.begin >= 0));
    fixed(j, "harness", false, xstrdup(harness_names[j->harness.kind]));
    fixed(j, "over_long", false, xstrdup(over_long_names[j->o.over]));
    fixed(j, "activations", false, xstrdup(activation_options[j->o.device.activations]));
    fixed(j, "weights", false, xstrdup(model_weights_name(j->model)));
    fixed(j, "store_type", false, xstrdup(dtype_options[j->o.store_type]));
    fixed(j, "layers", true, xasprintf("%d", c->L));
    fixed(j, "heads", true, xasprintf("%d", c->H));
    fixed(j, "hidden", true, xasprintf("%d", c->E));
    fixed(j, "neurons", true, xasprintf("%d", c->F));
    if (c->heads) fixed(j, "heads_per_layer", false, list_text(c->heads, c->L));
    if (c->neurons) fixed(j, "neurons_per_layer", false, list_text(c->neurons, c->L));
}

// What a store means that does not have an attribute; NULL: it must have it.
static const char *unsaid(const char *key) {
    if (strcmp(key, "activations") == 0) return "fp32";
    if (strcmp(key, "weights") == 0) return "as stored";
    if (strcmp(key, "harness") == 0) return harness_names[HARNESS_2022];
    return strcmp(key, "part") == 0 ? whole_part : NULL;
}

static int fits(const score_job *j) {
    int bad = 0;
    for (int i = 0; !bad && i < j->n_attr; i++) {
        char *there = store_attr(j->old, "/", j->attr[i].key);
        if (!there && unsaid(j->attr[i].key)) there = xstrdup(unsaid(j->attr[i].key));
        if (!there || strcmp(there, j->attr[i].value) != 0)
            bad = err_set("%s: holds scores of another kind: %s is %s there, %s here; give another --out", j->o.out,
                          j->attr[i].key, there ? there : "missing", j->attr[i].value);
        free(there);
    }
    return bad;
}

// Criteria of the store are kept up when examples are added: the union with those asked for.
static int unite_criteria(score_job *j) {
    char *text = store_attr(j->old, "/", "criteria"), *both = xasprintf("%s,%s", j->o.criteria, text ? text : "");
    free(j->crit);
    j->crit = crit_select(both, &j->n_crit);
    free(text);
    free(both);
    if (!j->crit) return err_prefix("%s", j->o.out);
    int there = store_attr_int(j->old, "/", "removal_neurons");
    if (there > j->removal_neurons) j->removal_neurons = there;
    return 0;
}

// ---------------------------------------------------------------- datasets
static void add_field(score_job *j, score_field f) {
    f.old = j->old && store_has(j->old, f.dataset);
    VEC_PUSH(j->field, j->n_field, j->cap_field, f);
}

static void list_fields(score_job *j) {
    static const model_state feat_state[FEAT_KINDS] = {
        [FEAT_HEAD_OUTPUT] = STATE_HEAD_OUTPUT, [FEAT_RESIDUAL] = STATE_RESIDUAL, [FEAT_RESIDUAL_MID] = STATE_MID};
    const model_config *c = &j->model->c;
    add_field(j, (score_field){.kind = FIELD_LOSS, .U = 1, .dataset = xstrdup("/examples/loss")});
    bool pooled = false;
    for (int k = 0; k < j->n_crit; k++) pooled |= j->mode[MODE_SOUND] && j->crit[k]->pooled;
    // next to the loss, so that doubles are aligned in a record
    if (pooled)
        add_field(j, (score_field){.kind = FIELD_MOMENTS,
                                   .U = (int)moments_width(c, UNIT_HEADS) + c->F,
                                   .dataset = xstrdup(moments_norms)});
    for (mode_kind m = MODE_SOUND; m < MODES; m++) {
        const char *suffix = mode_suffixes[m];
        if (!j->mode[m]) continue;
        for (int k = 0; k < FEAT_KINDS; k++)
            add_field(j, (score_field){.kind = FIELD_FEATURE,
                                       .mode = m,
                                       .what = k,
                                       .U = model_state_width(c, feat_state[k]),
                                       .dataset = xasprintf("/features%s/%s", suffix, feat_names[k])});
        for (int k = 0; k < j->n_crit; k++)
            for (unit_kind u = UNIT_HEADS; u < UNIT_KINDS; u++) {
                const crit_mode *of = crit_mode_of(j->crit[k], m);
                if (crit_function(of, u))
                    add_field(j, (score_field){
                                     .kind = FIELD_SCORE,
                                     .mode = m,
                                     .what = k,
                                     .unit = u,
                                     .U = model_all_units(c, u),
                                     .some = u == UNIT_NEURONS && crit_needs(of, u) & CRIT_REMOVAL,
                                     .dataset = xasprintf("/scores%s/%s/%s", suffix, j->crit[k]->name, unit_names[u])});
            }
    }
}

// Arrays of single rows of fc1 and of correlations of its gradient's rows are those of an FFN with one matrix.
static int check_arrays(const score_job *j) {
    const unsigned arrays = CRIT_WEIGHT | CRIT_WGRAD | CRIT_XCORR;
    for (int k = 0; j->model->arch.gated && k < j->n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++)
            if (j->mode[m] && crit_mode_of(j->crit[k], m)->needs_neurons & arrays)
                return err_set("criterion %s reads the weights of fc1, and the model's FFN is gated: leave it out",
                               j->crit[k]->name);
    return 0;
}

static int read_old_index(score_job *j) {
    for (int i = 0; j->old && i < j->n_field; i++) {
        if (!j->field[i].some || !j->field[i].old) continue;
        char *name = xasprintf("%.*sindex", (int)(strrchr(j->field[i].dataset, '/') + 1 - j->field[i].dataset),
                               j->field[i].dataset);
        long dim[3];
        int bad = store_shape(j->old, name, dim) == 1 ? 0 : err_set("%s: %s is missing", j->o.out, name);
        if (!bad) {
            j->n_old_index = (int)dim[0];
            free(j->old_index);
            j->old_index = xmalloc((size_t)dim[0] * sizeof *j->old_index);
            bad = store_read_int64(j->old, name, 0, dim[0], j->old_index);
        }
        free(name);
        if (bad) return bad;
    }
    return 0;
}

static void classify(score_job *j) {
    bool some = false;
    for (int i = 0; i < j->n_field; i++) some |= j->field[i].some;
    j->class = xcalloc((size_t)j->ex.n, 1);
    for (int t = 0; t < j->n_task; t++)
        for (int k = 0; k < j->task[t].n; k++) {
            int row = j->task[t].first + k;
            int64_t old = j->old_row[row];
            if (old < 0) j->class[row] |= CLASS_NEW;
            if (some && k < j->removal_neurons) j->class[row] |= CLASS_WANTS_SOME;
            for (int i = 0; old >= 0 && i < j->n_old_index; i++)
                if (j->old_index[i] == old) j->class[row] |= CLASS_HAS_SOME;
        }
}

bool score_missing(const score_job *j, int class, const score_field *f) {
    (void)j;
    if (f->some && !(class & CLASS_WANTS_SOME)) return false;
    if (class & CLASS_NEW) return true;
    return f->some ? !f->old || !(class & CLASS_HAS_SOME) : !f->old;
}

size_t score_field_at(const score_job *j, int class, const score_field *f) {
    size_t at = 0;
    for (const score_field *g = j->field; g < f; g++)
        if (score_missing(j, class, g)) at += score_field_bytes(j, g);
    return at;
}

size_t score_field_bytes(const score_job *j, const score_field *f) {
    if (f->kind == FIELD_LOSS) return sizeof(double);
    const size_t numbers = (size_t)j->model->c.L * (size_t)f->U;
    return f->kind == FIELD_MOMENTS ? 2 * numbers * sizeof(double) : numbers * sizeof(float);
}

size_t score_side_bytes(const score_job *j) {
    const model_config *c = &j->model->c;
    const size_t F = (size_t)c->F, neurons = j->model->arch.gated ? 2 * F * sizeof(float) : (F + 7) / 8 * 8;
    return (size_t)c->L * ((size_t)(c->H * c->D + c->E) * sizeof(float) + neurons);
}

size_t score_record_bytes(const score_job *j, int row) {
    size_t bytes = (size_t)(j->side_first[row + 1] - j->side_first[row]) * score_side_bytes(j);
    for (int i = 0; i < j->n_field; i++)
        if (score_missing(j, j->class[row], &j -> field[i])) bytes += score_field_bytes(j, &j->field[i]);
    return bytes;
}

void score_probe_plan(const score_job *j, int class, probe_plan *plan, int *index) {
    *plan = (probe_plan){
        .crit = xcalloc((size_t)j->n_crit + 1, sizeof *plan->crit), .seed = j->seed, .recompute = j->recompute};
    memcpy(plan->mode, j->mode, sizeof plan->mode);
    for (int k = 0; k < j->n_crit; k++) {
        bool wanted = false;
        for (int i = 0; i < j->n_field; i++) {
            const score_field *f = &j->field[i];
            const bool of_it =
                f->kind == FIELD_MOMENTS ? j->crit[k]->pooled != NULL : f->kind == FIELD_SCORE && f->what == k;
            wanted |= of_it && score_missing(j, class, f);
        }
        if (!wanted) continue;
        if (index) index[plan->n_crit] = k;
        plan->crit[plan->n_crit++] = j->crit[k];
    }
}

// ---------------------------------------------------------------- task-level criteria
static int by_int(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

char *score_stage_group(const score_job *j, const score_stage *s) {
    return xasprintf("/task_scores%s/%s/%s", mode_suffixes[s->mode], j->task[s->task].name, j->crit[s->crit]->name);
}

// Why the task has no such score, as an attribute of the task: its group under /task_scores must not exist then.
static char *none_key(const score_job *j, const score_stage *s) {
    return xasprintf("no_%s%s", j->crit[s->crit]->name, mode_suffixes[s->mode]);
}

static char *score_stage_none(const score_job *j, const score_stage *s) {
    char *group = xasprintf("/tasks/%s", j->task[s->task].name), *key = none_key(j, s),
         *text = store_attr(j->old, group, key);
    free(group);
    free(key);
    return text;
}

int score_put_stage_none(const score_job *j, store *to, const score_stage *s, const char *why) {
    char *group = xasprintf("/tasks/%s", j->task[s->task].name), *key = none_key(j, s);
    int bad = store_put_text(to, group, key, why);
    free(group);
    free(key);
    return bad;
}

static void ask_stage(score_job *j, int t, int k, mode_kind mode) {
    const task_stage *of = crit_mode_of(j->crit[k], mode)->task;
    const score_task *task = &j->task[t];
    const bool pooled = mode == MODE_SOUND && j->crit[k]->pooled;
    if (!of && !pooled) return;
    score_stage s = {.task = t, .crit = k, .mode = mode};
    char *group = score_stage_group(j, &s), *said = j->old ? score_stage_none(j, &s) : NULL;
    s.copy = j->old && task->n == task->n_old && (said || store_has(j->old, group));
    s.said = s.copy ? said : NULL;
    const int32_t **tokens = xmalloc((size_t)task->n * sizeof *tokens);
    int *length = xmalloc((size_t)task->n * sizeof *length), *context = xmalloc((size_t)task->n * sizeof *context);
    for (int i = 0; i < task->n; i++) {
        int64_t at = j->ex.offset[task->first + i];
        tokens[i] = j->ex.tokens + at;
        length[i] = (int)(j->ex.offset[task->first + i + 1] - at);
        context[i] = j->ex.context[task->first + i];
    }
    if (!s.copy && of) s.row = of->select(&(task_tokens){task->n, tokens, length, context}, j->seed, &s.n, &s.why);
    VEC_PUSH(j->stage, j->n_stage, j->cap_stage, s);
    free(tokens);
    free(length);
    free(context);
    if (!s.copy) free(said);
    free(group);
}

static void plan_side_rows(score_job *j) {
    int n = j->ex.n, total = 0;
    j->side_first = xcalloc((size_t)n + 2, sizeof *j->side_first);
    for (int s = 0; s < j->n_stage; s++)
        for (int i = 0; i < j->stage[s].n; i++)
            j->side_first[j->task[j->stage[s].task].first + j->stage[s].row[i].example + 2]++;
    for (int i = 2; i <= n + 1; i++) j->side_first[i] += j->side_first[i - 1];
    j->side = xmalloc((size_t)j->side_first[n + 1] * sizeof *j->side);
    for (int s = 0; s < j->n_stage; s++)
        for (int i = 0; i < j->stage[s].n; i++) {
            const task_row *r = &j->stage[s].row[i];
            j->side[j->side_first[j->task[j->stage[s].task].first + r->example + 1]++] = r->position;
        }
    for (int i = 0; i < n; i++) {  // sorted, each position once
        int from = j->side_first[i], to = j->side_first[i + 1], first = total;
        qsort(j->side + from, (size_t)(to - from), sizeof *j->side, by_int);
        j->side_first[i] = first;
        for (int k = from; k < to; k++)
            if (total == first || j->side[total - 1] != j->side[k]) j->side[total++] = j->side[k];
    }
    j->side_first[n] = total;
}

// ---------------------------------------------------------------- batches
static int length_of(const score_job *j, int row) { return (int)(j->ex.offset[row + 1] - j->ex.offset[row]); }

static int plan_batches(score_job *j) {
    int longest = 1;
    bool seen[CLASSES] = {false};
    j->order = xmalloc((size_t)j->ex.n * sizeof *j->order);
    for (int class = 0; class < CLASSES; class ++)
        for (int row = 0; row < j->ex.n; row++) {
            if (j->class[row] != class || score_record_bytes(j, row) == 0) continue;
            j->order[j->n_order++] = row;
            seen[class] = true;
            if (length_of(j, row) > longest) longest = length_of(j, row);
        }
    j->recompute = j->o.recompute == RECOMPUTE_ON;
    // as many tokens as keep the workspace under 1 GiB; the longest example must fit in any case
    size_t most = (size_t)1 << 30;
    j->max_tokens = j->o.batch_tokens ? (int)j->o.batch_tokens : 2048;
    for (int class = 0; class < CLASSES && !j->o.batch_tokens; class ++) {
        probe_plan plan;
        if (!seen[class]) continue;
        score_probe_plan(j, class, &plan, NULL);
        while (j->max_tokens > longest && probe_bytes(j->model, &plan, j->max_tokens) > most)
            j->max_tokens = j->max_tokens / 2 > longest ? j->max_tokens / 2 : longest;
        free(plan.crit);
    }
    if (j->max_tokens < longest) j->max_tokens = longest;
    if (score_choose_recompute(j, seen) != 0) return -1;
    for (int i = 0; i < j->n_order;) {
        score_batch b = {.row = i, .class = j->class[j->order[i]]};
        int tokens = 0, side = 0;
        for (; i < j->n_order && j->class[j->order[i]] == b.class && b.n < 256 &&
               tokens + length_of(j, j->order[i]) <= j->max_tokens;
             i++, b.n++) {
            tokens += length_of(j, j->order[i]);
            side += j->side_first[j->order[i] + 1] - j->side_first[j->order[i]];
        }
        if (side > j->most_side) j->most_side = side;
        if (b.n > j->most_rows) j->most_rows = b.n;
        VEC_PUSH(j->batch, j->n_batch, j->cap_batch, b);
    }
    return 0;
}

// The lines of parts.h: whoever resumes in a folder of parts must want exactly this.
static char *plan_text(const score_job *j) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (int i = 0; i < j->n_attr; i++) fprintf(f, "%s=%s\n", j->attr[i].key, j->attr[i].value);
    fprintf(f, "code=%s\ncriteria=", code_version());  // the store will name one version for all rows
    for (int k = 0; k < j->n_crit; k++) fprintf(f, "%s%s", k ? "," : "", j->crit[k]->name);
    fprintf(f, "\nremoval_neurons=%d\n", j->removal_neurons);
    for (int t = 0; t < j->n_task; t++)
        fprintf(f, "%s=%d examples of %s, data %s, few-shot %s\n", j->task[t].name, j->task[t].considered,
                j->task[t].attr[0], j->task[t].attr[2], j->task[t].attr[3]);
    fclose(f);
    return text;
}

int score_plan(score_job *j) {
    fix_attributes(j);
    if (file_exists(j->o.out) && !(j->old = store_open(j->o.out))) return -1;
    if (j->old && (fits(j) || unite_criteria(j))) return -1;
    return score_choose_examples(j) ? -1 : score_plan_rows(j);
}

int score_plan_rows(score_job *j) {
    if (check_arrays(j)) return -1;
    list_fields(j);
    if (read_old_index(j)) return -1;
    classify(j);
    for (int t = 0; t < j->n_task; t++)
        for (int k = 0; k < j->n_crit; k++)
            for (mode_kind m = MODE_SOUND; m < MODES; m++)
                if (j->mode[m]) ask_stage(j, t, k, m);
    plan_side_rows(j);
    if (plan_batches(j) != 0) return -1;
    j->plan_text = plan_text(j);
    j->base_text = j->old ? store_attr(j->old, "/", "criteria") : NULL;
    return 0;
}

void score_free(score_job *j) {
    for (int i = 0; i < j->n_attr; i++) free(j->attr[i].value);
    for (int i = 0; i < j->n_field; i++) free(j->field[i].dataset);
    for (int i = 0; i < j->n_stage; i++) free(j->stage[i].row), free(j->stage[i].said);
    for (int i = 0; i < j->n_task; i++) {
        if (j->task[i].pool_seen != j->task[i].seen) free(j->task[i].pool_seen);
        free(j->task[i].seen);
        task_close(&j->task[i].split);
        task_close(&j->task[i].own_pool);
        for (int k = 0; k < 4; k++) free(j->task[i].attr[k]);
    }
    store_examples_free(&j->ex);
    store_close(j->old);
    void *blocks[] = {j->attr,       j->field, j->stage, j->task,  j->old_index, j->old_row,   j->class,
                      j->side_first, j->side,  j->order, j->batch, j->plan_text, j->base_text, j->crit};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    *j = (score_job){0};
}
