// eval_requests - pairs of texts from a file as the items of a task. Contract in eval.h.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "eval.h"
#include "json_read.h"

// The two texts of a row: {"context": "..", "continuation": ".."}, or what lm-evaluation-harness calls its arguments,
// ["..", ".."].
static int read_pair(const json_t *row, const char *text[2]) {
    static const char *const key[2] = {"context", "continuation"};
    for (int k = 0; k < 2; k++) {
        const json_t *of = json_is_array(row) ? json_array_get(row, (size_t)k) : json_object_get(row, key[k]);
        text[k] = json_string_value(of);
        if (!text[k]) return err_set("no text \"%s\"; want {\"context\": \"..\", \"continuation\": \"..\"}", key[k]);
        if (json_string_length(of) != strlen(text[k])) return err_set("\"%s\" holds a zero character", key[k]);
    }
    return 0;
}

typedef struct {
    eval_task *t;
    const eval_options *o;
    const tok *tk;
    harness h;
    int positions, cap;
} reader;

static int add_request(reader *r, const json_t *row) {
    const char *text[2];
    task_example e;
    eval_item it = {.n_seqs = 1};
    if (read_pair(row, text) || harness_encode_pair(&e, &r->h, r->tk, text[0], text[1])) return -1;
    const int length = e.n, cut = e.n <= r->positions + 1 ? 0 : harness_cut(&e, &r->h, r->positions + 1);
    if (cut < 0 || (cut && r->o->over != OVER_LONG_CUT)) {
        free(e.tokens);
        return err_set("%d tokens, the model has %d positions%s", length, r->positions,
                       cut < 0 ? ", which the continuation alone exceeds"
                               : "; --over-long cut shortens contexts from the left, as lm-evaluation-harness does");
    }
    it.seq[0].tokens = e.tokens;
    it.seq[0].n = e.n - 1;
    it.seq[0].from = e.context_length - 1;
    r->t->cut += cut;
    VEC_PUSH(r->t->item, r->t->n, r->cap, it);
    return 0;
}

int eval_requests_open(eval_task *t, const text_file *from, const eval_options *o, const tok *tk,
                       const model_config *c) {
    reader r = {.t = t, .o = o, .tk = tk, .positions = c->positions};
    *t = (eval_task){.name = "requests"};
    hash_bytes(t->hash, from->text, from->bytes);
    if (harness_of(&r.h, HARNESS_TODAY, o->bos, tk, tok_first(tk, c))) return err_set("--bos: %s", tok_no_first);
    int bad = 0;
    long line = 1;
    const char *end = from->text + from->bytes;
    for (const char *at = from->text + bom_length(from->text, from->bytes), *stop; at < end && !bad;
         at = stop + 1, line++) {
        json_error_t e;
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        if (at + strspn(at, " \t\r") >= stop) continue;
        json_t *row = json_loadb(at, (size_t)(stop - at), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
        bad = row ? add_request(&r, row) : err_set("not JSON (%s)", e.text);
        if (bad) err_prefix("%s:%ld", from->path, line);
        json_decref(row);
    }
    if (!bad && t->n == 0) bad = err_set("%s: holds no requests", from->path);
    if (bad) eval_task_close(t);
    return bad ? -1 : 0;
}
