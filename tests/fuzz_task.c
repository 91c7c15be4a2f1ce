// fuzz_task - any bytes as rows of each task (chosen by the first byte, its top bit: as TSV; after the first zero byte
// stand the labels), and as a file of running text. What is accepted must be whole.
// seeds: tests/golden/fuzz_task/*
#include <stdlib.h>
#include <string.h>
#include "task.h"
#include "wikitext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_rows(const char *name, const char *path, const char *text, size_t n) {
    const char *labels = memchr(text, 0, n);
    size_t rows = labels ? (size_t)(labels - text) : n;
    task_split s;
    if (task_parse(&s, name, text, rows, labels ? labels + 1 : NULL, labels ? n - rows - 1 : 0, path)) {
        ASSERT(!s.docs && !strchr(err_get(), '\n'));
        return;
    }
    ASSERT(s.n > 0);
    for (int i = 0; i < s.n; i++) {
        const task_doc *d = &s.docs[i];
        ASSERT(d->n_choices >= 2 && d->n_choices <= TASK_MAX_CHOICES && d->gold < d->n_choices &&
               (d->gold >= 0) == s.labelled);
        ASSERT(!d->gold_compat == (d->gold < 0));
        for (int c = 0; c < d->n_choices; c++)
            ASSERT(d->context[c] && d->context[c][0] && d->choice[c][0] == ' ' && d->choice[c][1]);
    }
    char *prefix = task_prefix(&s, &s, 0, 1, 7, MODE_SOUND);
    free(prefix);
    free(task_order(&s, 7));
    task_close(&s);
}

static void as_text(const char *text, size_t n) {
    wikitext w;
    if (wikitext_parse(&w, text, n)) return;
    long bytes = 0;
    for (int i = 0; i < w.n; i++) {
        bytes += w.pages[i].bytes;
        ASSERT(strlen(w.pages[i].text) <= (size_t)w.pages[i].bytes && w.pages[i].words > 0);
    }
    ASSERT((size_t)bytes <= n);
    char *gptq = wikitext_gptq_text(&w);
    free(gptq);
    wikitext_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    int names = 0, kind = data[0];
    while (task_names[names]) names++;
    char *text = xstrndup((const char *)data + 1, size - 1);
    if (kind % (names + 1) == names)
        as_text(text, size - 1);
    else
        as_rows(task_names[kind % (names + 1)], kind & 128 ? "dev.tsv" : "dev.jsonl", text, size - 1);
    free(text);
    return 0;
}
