// task_form - the seven tasks: row forms and prompts, as METHOD 3.1 and 3.4 give them.
//
// Every field is looked up by its published name; where the authors' files and the hub's export differ, by whichever is
// there:
//   piqa        goal, sol1, sol2; label 0 1 (in the row, or by line in NAME-labels.lst)
//   copa        premise, question cause|effect, choice1, choice2; label 0 1
//   openbookqa  question.stem + question.choices[{text, label}], or question_stem + choices{text[], label[]}; answerKey
//   winogrande  sentence with _, option1, option2; answer "1" "2" (in the row, or in NAME-labels.lst)
//   rte         sentence1, sentence2, or premise, hypothesis; label 0 1 entailment not_entailment
//   hellaswag   activity_label, ctx_a, ctx_b, endings[4]; label 0..3, number or text
//   arc_easy    question.stem + question.choices[], or question + choices{}; answerKey A-E or 1-5
// Absent, null, empty and -1 labels are hidden ones.
#include "task_form.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

// ---------------------------------------------------------------- rows
static void row_bad(task_row *r, const char *field, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void row_bad(task_row *r, const char *field, const char *fmt, ...) {
    if (r->bad) return;
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    for (char *p = what; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) *p = '?';
    err_set("%s:%d: %s: %s", r->path, r->line, field, what);
    r->bad = true;
}

static const char *type_name(const json_t *v) {
    if (!v) return "missing";
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a text";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_NULL: return "null";
    default: return "a truth value";
    }
}

// The value of "field" or "field.member"; NULL if there is none.
static json_t *row_at(const task_row *r, const char *field) {
    const char *dot = strchr(field, '.');
    if (!dot) return json_object_get(r->json, field);
    char *outer = xstrndup(field, (size_t)(dot - field));
    json_t *v = json_object_get(json_object_get(r->json, outer), dot + 1);
    free(outer);
    return v;
}

// v, called `field` in messages, as a text; may_be_empty: else it must hold more than white space.
static const char *as_text(task_row *r, const json_t *v, const char *field, bool may_be_empty) {
    const char *text = json_string_value(v);
    if (!text)
        row_bad(r, field, v ? "is %s, want a text" : "is %s", type_name(v));
    else if (!may_be_empty && text_blank(text))
        row_bad(r, field, "is empty");
    return text ? text : "";
}

static const char *row_text(task_row *r, const char *field) { return as_text(r, row_at(r, field), field, false); }

// The one of `names` that a label spells; -1: hidden, or a complaint.
static int label_index(task_row *r, const char *label, const char *field, const char *const *names, int n) {
    char *key = text_strip(xstrdup(label)), want[96] = "";
    int found = -1;
    bool hidden = !*key || !strcmp(key, "-1");
    for (int i = 0; i < n && found < 0 && !hidden; i++) {
        if (!strcmp(key, names[i])) found = i;
        size_t used = strlen(want);
        snprintf(want + used, sizeof want - used, "%s%s", i ? ", " : "", names[i]);
    }
    if (found < 0 && !hidden) row_bad(r, field, "is %.40s, want one of: %s", key, want);
    free(key);
    return found;
}

// The label in the row, else the one in the labels file; where both are there they must agree.
static int row_label(task_row *r, const char *field, const char *const *names, int n) {
    json_t *v = row_at(r, field);
    char number[24];
    const char *text = "";
    if (json_is_integer(v)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        text = number;
    } else if (json_is_string(v)) {
        text = json_string_value(v);
    } else if (v && !json_is_null(v)) {
        row_bad(r, field, "is %s, want a whole number or a text", type_name(v));
    }
    int inner = label_index(r, text, field, names, n);
    if (!r->label || r->bad) return inner;
    const char *path = r->path;
    r->path = r->label_path;
    int outer = label_index(r, r->label, field, names, n);
    if (outer >= 0 && inner >= 0 && outer != inner)
        row_bad(r, field, "is %s, but the row itself says %s", names[outer], names[inner]);
    r->path = path;
    return outer >= 0 ? outer : inner;
}

// ---------------------------------------------------------------- documents
static void doc_context(task_doc *d, char *context) {
    for (int i = 0; i < TASK_MAX_CHOICES; i++) d->context[i] = context;
}

static void doc_choice(task_doc *d, const char *text) {
    ASSERT(d->n_choices < TASK_MAX_CHOICES);
    d->choice[d->n_choices++] = xasprintf(" %s", text);
}

// Candidates and answerKey of the two question-answering sets by AI2. least, most: how many candidates there may be.
static void read_answers(task_doc *d, task_row *r, int least, int most) {
    const char *label[TASK_MAX_CHOICES], *where = row_at(r, "question.choices") ? "question.choices" : "choices";
    const json_t *list = row_at(r, where), *texts = json_object_get(list, "text"),
                 *labels = json_object_get(list, "label");
    bool hub = json_is_object(list);
    int n = (int)json_array_size(hub ? texts : list);
    if (!hub && !json_is_array(list)) {
        row_bad(r, where, list ? "is %s, want the candidates" : "is %s", type_name(list));
    } else if (n < least || n > most) {
        row_bad(r, where, least == most ? "has %d candidates, want %d" : "has %d candidates, want %d to %d", n, least,
                most);
    } else if (hub && json_array_size(labels) != (size_t)n) {
        row_bad(r, where, "has %d texts, but %d labels", n, (int)json_array_size(labels));
    }
    for (int i = 0; i < n && !r->bad; i++) {
        char name[48];
        const json_t *item = json_array_get(list, (size_t)i);
        snprintf(name, sizeof name, hub ? "%s.text[%d]" : "%s[%d].text", where, i);
        doc_choice(d, as_text(r, hub ? json_array_get(texts, (size_t)i) : json_object_get(item, "text"), name, false));
        snprintf(name, sizeof name, hub ? "%s.label[%d]" : "%s[%d].label", where, i);
        label[i] = as_text(r, hub ? json_array_get(labels, (size_t)i) : json_object_get(item, "label"), name, false);
        for (int j = 0; j < i; j++)
            if (!strcmp(label[i], label[j])) row_bad(r, name, "is %.40s a second time", label[i]);
    }
    if (!r->bad) d->gold = row_label(r, "answerKey", label, n);
}

// ---------------------------------------------------------------- the tasks
static const char *const digits[] = {"0", "1", "2", "3"};

static void read_piqa(task_doc *d, task_row *r) {
    doc_context(d, xasprintf("Question: %s\nAnswer:", row_text(r, "goal")));
    doc_choice(d, row_text(r, "sol1"));
    doc_choice(d, row_text(r, "sol2"));
    d->gold = row_label(r, "label", digits, 2);
}

static void read_copa(task_doc *d, task_row *r) {
    char *premise = text_strip(xstrdup(row_text(r, "premise")));
    const char *question = row_text(r, "question"), *const choice[] = {"choice1", "choice2"};
    bool cause = !strcmp(question, "cause");
    if (!cause && strcmp(question, "effect")) row_bad(r, "question", "is %.40s, want cause or effect", question);
    size_t n = strlen(premise);
    if (n > 0) n--;
    while (n > 0 && ((unsigned char)premise[n] & 0xc0) == 0x80) n--;  // the last character, whatever its length
    doc_context(d, xasprintf("%.*s %s", (int)n, premise, cause ? "because" : "therefore"));
    free(premise);
    for (int i = 0; i < 2 && !r->bad; i++) {
        const char *text = row_text(r, choice[i]);
        if (r->bad) return;
        char *lower = text_lower_first(text);
        doc_choice(d, lower);
        free(lower);
    }
    d->gold = row_label(r, "label", digits, 2);
}

static void read_openbookqa(task_doc *d, task_row *r) {
    doc_context(d, xstrdup(row_text(r, row_at(r, "question_stem") ? "question_stem" : "question.stem")));
    read_answers(d, r, 4, 4);
}

static void read_arc_easy(task_doc *d, task_row *r) {
    doc_context(
        d, xasprintf("Question: %s\nAnswer:", row_text(r, row_at(r, "question.stem") ? "question.stem" : "question")));
    read_answers(d, r, 2, 5);
}

// The candidate is what follows the blank, so it is the context that differs.
static void read_winogrande(task_doc *d, task_row *r) {
    static const char *const answers[] = {"1", "2"};
    const char *sentence = row_text(r, "sentence"), *option[] = {row_text(r, "option1"), row_text(r, "option2")};
    const char *blank = strchr(sentence, '_');
    if (!blank)
        row_bad(r, "sentence", "has no blank (_)");
    else if (text_blank(blank + 1))
        row_bad(r, "sentence", "has nothing after its blank (_)");
    if (r->bad) return;
    char *rest = text_strip(xstrdup(blank + 1));
    for (int i = 0; i < 2; i++) {
        d->context[i] = xasprintf("%.*s%s", (int)(blank - sentence), sentence, option[i]);
        doc_choice(d, rest);
    }
    free(rest);
    d->gold = row_label(r, "answer", answers, 2);
}

static void read_rte(task_doc *d, task_row *r) {
    static const char *const labels[] = {"0", "1", "entailment", "not_entailment"};
    bool super = row_at(r, "premise");
    const char *first = row_text(r, super ? "premise" : "sentence1"),
               *second = row_text(r, super ? "hypothesis" : "sentence2");
    doc_context(d, xasprintf("%s\nQuestion: %s True or False?\nAnswer:", first, second));
    doc_choice(d, "True");
    doc_choice(d, "False");
    int label = row_label(r, "label", labels, 4);
    d->gold = label < 0 ? -1 : label % 2;
}

// The harness's cleaning of the artefacts of WikiHow. Consumes text.
static char *clean(char *text) {
    text_replace(text_strip(text), " [title]", ". ");
    char *out = text;
    for (const char *in = text; *in;) {
        const char *close = *in == '[' ? in + strcspn(in, "]\n") : NULL;  // "[...]" on one line
        if (close && *close == ']')
            in = close + 1;
        else
            *out++ = *in++;
    }
    *out = 0;
    return text_replace(text, "  ", " ");
}

static void read_hellaswag(task_doc *d, task_row *r) {
    const char *activity = row_text(r, "activity_label"), *a = row_text(r, "ctx_a"),
               *b = as_text(r, row_at(r, "ctx_b"), "ctx_b", true);
    const json_t *endings = row_at(r, "endings");
    int n = (int)json_array_size(endings);
    if (n != 4) row_bad(r, "endings", json_is_array(endings) ? "has %d texts, want 4" : "is not an array", n);
    if (r->bad) return;
    char *upper = *b ? text_capitalize(b) : xstrdup("");
    doc_context(d, clean(xasprintf("%s: %s %s", activity, a, upper)));
    free(upper);
    for (int i = 0; i < n; i++) {
        char name[24];
        snprintf(name, sizeof name, "endings[%d]", i);
        char *ending = clean(xstrdup(as_text(r, json_array_get(endings, (size_t)i), name, false)));
        if (text_blank(ending)) row_bad(r, name, "is empty once [...] is removed");
        doc_choice(d, ending);
        free(ending);
    }
    d->gold = row_label(r, "label", digits, 4);
}

// name, labelled split of the published evaluation, compat's gold without its space, TSV, fields of id and label
#define TASKS(X)                                                                                                       \
    X(piqa, "val", true, false, "id", "label")                                                                         \
    X(copa, "val", false, false, "idx", "label")                                                                       \
    X(openbookqa, "test", true, false, "id", "answerKey")                                                              \
    X(winogrande, "val", false, false, "qID", "answer")                                                                \
    X(rte, "val", false, true, "idx", "label")                                                                         \
    X(hellaswag, "val", true, false, "ind", "label")                                                                   \
    X(arc_easy, "test", true, false, "id", "answerKey")
#define FORM(name, split, bare, tsv, id, label) {#name, split, bare, tsv, id, label, read_##name},
#define NAME(name, split, bare, tsv, id, label) #name,
const task_form task_forms[] = {TASKS(FORM){0}};
const char *const task_names[] = {TASKS(NAME) NULL};
_Static_assert(sizeof task_names / sizeof *task_names == TASK_COUNT + 1, "TASK_COUNT of task.h is the number of tasks");
