// bench_text - prompts and tokens from the pages of a text instead of random ones, so that what is timed also has a
// perplexity. Contract in bench.h.
//
// Pages are cut into windows of as many tokens as a sequence has, after the token that begins a text. Sequences take
// the first window of every page, in the order of the file, then the second windows, and so on.
#include "bench.h"
#include "tok_model.h"
#include "wikitext.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int bench_text_open(bench_text *t, const char *path, const char *dir, const model_config *c) {
    *t = (bench_text){.path = path};
    size_t bytes;
    wikitext w = {0};
    tok *tk = tok_open_model(dir, c);
    char *text = tk ? file_read(path, &bytes) : NULL;
    int n = 0, cap = 0, bad = text ? 0 : -1;
    if (!bad && wikitext_parse(&w, text, bytes) != 0) bad = err_prefix("%s", path);
    t->from = xcalloc((size_t)w.n + 1, sizeof *t->from);
    for (int p = 0; p < w.n && !bad; p++) {
        const char *page = w.pages[p].text;
        if (tok_encode(tk, page, strlen(page), &t->id, &n, &cap) != 0) bad = err_prefix("%s, page %d", path, p + 1);
        t->from[p + 1] = n;
    }
    t->pages = w.n;
    t->first = tk ? tok_first(tk, c) : -1;
    memcpy(t->hash, w.hash, sizeof t->hash);
    wikitext_close(&w);
    free(text);
    tok_close(tk);
    return bad;
}

void bench_text_close(bench_text *t) {
    free(t->id);
    free(t->from);
    free(t->window);
    *t = (bench_text){0};
}

int bench_text_cut(bench_text *t, int sequences, int tokens) {
    const int each = t->first < 0 ? tokens : tokens - 1;
    int n = 0;
    t->window = xrealloc(t->window, (size_t)sequences * sizeof *t->window);
    for (int k = 0, found = 1; found && n < sequences; k++) {
        found = 0;
        for (int p = 0; p < t->pages && n < sequences; p++) {
            if (t->from[p] + (k + 1) * each > t->from[p + 1]) continue;
            t->window[n++] = t->from[p] + k * each;
            found = 1;
        }
    }
    if (n == sequences) return 0;
    return err_set("%s: its pages have %d windows of %d tokens, not %d; lower --sequences, --prompt or --tokens",
                   t->path, n, tokens, sequences);
}

int32_t bench_text_token(const bench_text *t, int sequence, int at) {
    const int begins = t->first >= 0;
    return begins && at == 0 ? t->first : t->id[t->window[sequence] + at - begins];
}

void bench_perplexity(const bench_group *g, const bench_config *c, double *value, double *error) {
    const int n = g->sequences;
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += c->loss[i] / g->tokens / n;
    for (int i = 0; i < n; i++) squares += pow(c->loss[i] / g->tokens - mean, 2);
    *value = exp(mean);
    *error = n > 1 ? *value * sqrt(squares / (n - 1) / n) : NAN;
}
