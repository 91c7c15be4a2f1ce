// pretrain_text - the text that a model is trained on: read, tokenised, drawn into sequences. Contract in pretrain.h.
#include "pretrain.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- reading
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char *pretrain_read(const char *dir, size_t *bytes) {
    DIR *d = opendir(dir);
    if (!d) {
        err_set("%s: cannot open: %s; bin/world writes such a folder", dir, strerror(errno));
        return NULL;
    }
    char **name = NULL, *all = xstrdup("");
    int n = 0, cap = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 4 && strcmp(e->d_name + len - 4, ".txt") == 0)
            VEC_PUSH(name, n, cap, xasprintf("%s/%s", dir, e->d_name));
    }
    closedir(d);
    bool bad = n == 0;
    if (bad) err_set("%s: there is no *.txt in it", dir);
    if (n) qsort(name, (size_t)n, sizeof *name, by_name);
    *bytes = 0;
    for (int i = 0; i < n; i++) {
        size_t more;
        char *text = bad ? NULL : file_read(name[i], &more);
        if (text) {
            all = xrealloc(all, *bytes + more + 3);
            memcpy(all + *bytes, text, more);
            memcpy(all + *bytes + more, "\n\n", 3);
            *bytes += more + 2;
        }
        bad = !text;
        free(text);
        free(name[i]);
    }
    free(name);
    if (bad) free(all);
    return bad ? NULL : all;
}

// Documents end at blank lines, which belong to the document before them.
static int add_documents(corpus *c, const tok *t, const char *text, size_t bytes) {
    for (const char *p = text, *end = text + bytes; p < end;) {
        while (p < end && *p == '\n') p++;
        const char *stop = p < end ? memmem(p, (size_t)(end - p), "\n\n", 2) : NULL;
        if (!stop) stop = end;
        if (stop == p) break;
        VEC_PUSH(c->doc, c->n_docs, c->cap_docs, c->n);
        const char *next = stop + 2 < end ? stop + 2 : end;
        if (tok_encode(t, p, (size_t)(next - p), &c->ids, &c->n, &c->cap) != 0) return -1;
        p = next;
    }
    return 0;
}

static int weigh_answers(corpus *c, const tok *t, double answer_weight) {
    int32_t *cue = NULL;
    int n = 0, cap = 0;
    if (tok_encode(t, "Answer:", 7, &cue, &n, &cap) != 0) return -1;
    c->weight = xmalloc(sizeof *c->weight * ((size_t)c->n + 1));
    for (int i = 0; i <= c->n; i++) {
        const bool answer = i >= n && memcmp(c->ids + i - n, cue, sizeof *cue * (size_t)n) == 0;
        c->weight[i] = answer ? (float)answer_weight : 1.0f;
    }
    free(cue);
    return 0;
}

int corpus_make(corpus *c, const tok *t, const char *text, size_t bytes, double valid, double answer_weight) {
    *c = (corpus){0};
    if (add_documents(c, t, text, bytes) != 0 || weigh_answers(c, t, answer_weight) != 0) return -1;
    c->first_valid = c->n_docs - 1 - (int)(valid * c->n_docs);
    if (c->first_valid < 1)
        return err_set("the text has only %d documents (parted by blank lines); more are needed", c->n_docs);
    return 0;
}

void corpus_free(corpus *c) {
    free(c->ids);
    free(c->weight);
    free(c->doc);
}

// ---------------------------------------------------------------- sequences
batch batch_new(int tokens) {
    return (batch){.seq = xcalloc((size_t)tokens, sizeof(model_seq)), .ids = xcalloc((size_t)tokens, sizeof(int32_t))};
}

void batch_free(batch *b) {
    free(b->seq);
    free(b->ids);
}

void batch_fill(batch *b, const corpus *c, const model_config *cfg, uint64_t seed, long step, int room) {
    rng r = rng_make(rng_hash(seed, (uint64_t)step, 0x62617463));
    b->n = b->used = 0;
    b->weight = 0;
    while (room - b->used >= 32) {
        const int doc = (int)rng_below(&r, (uint64_t)c->first_valid), at = c->doc[doc], bos = (int)rng_below(&r, 2);
        int n = (int)(32.0 * pow((double)cfg->positions / 32.0, rng_uniform(&r))), end = c->doc[c->first_valid];
        if (n > room - b->used) n = room - b->used;
        if (n > end - at - 1 + bos) n = end - at - 1 + bos;
        if (n < 2) continue;
        int32_t *ids = b->ids + b->used;
        if (bos) ids[0] = cfg->bos;
        memcpy(ids + bos, c->ids + at, sizeof *ids * (size_t)(n - bos));
        b->seq[b->n++] = (model_seq){.tokens = ids,
                                     .n = n,
                                     .targets_from = 0,
                                     .weights = c->weight + at + 1 - bos,
                                     .last_target = c->ids[at + n - bos]};
        for (int i = 0; i < n; i++) b->weight += b->seq[b->n - 1].weights[i];
        b->used += n;
    }
}

double corpus_loss(const corpus *c, model_run *run, const model_config *cfg, int most) {
    const int begin = c->doc[c->first_valid], n = c->n - begin < most ? c->n - begin : most;
    int32_t *ids = xmalloc(sizeof *ids * (size_t)(n + 1));
    double *lp = xmalloc(sizeof *lp * (size_t)(n + 1)), loss = 0;
    ids[0] = cfg->bos;
    memcpy(ids + 1, c->ids + begin, sizeof *ids * (size_t)n);
    for (int at = 0; at < n; at += cfg->positions) {
        const int len = n - at < cfg->positions ? n - at : cfg->positions;
        model_seq s = {.tokens = ids + at, .n = len, .targets_from = 0, .last_target = ids[at + len]};
        model_forward(run, &s, 1);
        model_logprobs(run, lp, NULL, 0);
        for (int i = 0; i < len; i++) loss -= lp[i];
    }
    free(ids);
    free(lp);
    return loss / n;
}
