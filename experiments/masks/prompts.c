// prompts - files of prompts, and lines of JSON about what was made. Contract in prompts.h.
#include "prompts.h"
#include "json_read.h"
#include "results.h"
#include <stdlib.h>
#include <string.h>

// One line of JSON lines: a text, or an object with one.
static int read_json(prompt *p, const char *line, size_t n, const char *path) {
    json_error_t e;
    json_t *root = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e),
           *text = json_is_object(root) ? json_object_get(root, "prompt") : root;
    int bad = 0;
    if (!root)
        bad = err_set("%s:%ld: not valid JSON: %s", path, p->line, e.text);
    else if (!json_is_string(text))
        bad = err_set("%s:%ld: neither a text nor an object with a text \"prompt\"", path, p->line);
    else {
        p->bytes = json_string_length(text);
        p->text = xstrndup("", 0);
        p->text = xrealloc(p->text, p->bytes + 1);
        memcpy(p->text, json_string_value(text), p->bytes + 1);
    }
    json_decref(root);
    return bad;
}

static int read_line(prompt *p, const char *line, size_t n, const char *path, bool json) {
    if (json) return read_json(p, line, n, path);
    p->bytes = n;
    p->text = xstrndup(line, n);
    return 0;
}

int prompts_read(prompt **p, int *n, const char *path) {
    const bool input = strcmp(path, "-") == 0;
    const char *name = input ? "standard input" : path, *dot = strrchr(path, '.');
    const bool json = dot && strcmp(dot, ".jsonl") == 0;
    size_t bytes;
    char *text = file_read(input ? "/dev/stdin" : path, &bytes);
    int cap = *n, bad = text ? 0 : -1;
    long number = 1;
    const size_t mark = text ? bom_length(text, bytes) : 0;
    for (const char *line = text + mark, *end; !bad && line < text + bytes; line = end + 1, number++) {
        end = memchr(line, '\n', (size_t)(text + bytes - line));
        if (!end) end = text + bytes;
        size_t length = (size_t)(end - line);
        if (length && line[length - 1] == '\r') length--;
        if (!length) continue;
        prompt one = {.line = number};
        bad = read_line(&one, line, length, name, json);
        if (!bad) VEC_PUSH(*p, *n, cap, one);
    }
    if (!bad && !*n) bad = err_set("%s: holds no prompt; give one a line", name);
    free(text);
    return bad;
}

void prompts_free(prompt *p, int n) {
    for (int i = 0; i < n; i++) {
        free(p[i].text);
        free(p[i].ids);
        free(p[i].log_p);
    }
    free(p);
}

static void put_ids(FILE *f, const char *name, const int32_t *id, int n) {
    fprintf(f, ", \"%s\": [", name);
    for (int i = 0; i < n; i++) fprintf(f, "%s%d", i ? ", " : "", id[i]);
    fputc(']', f);
}

void prompt_write(FILE *f, const prompt *p, int number, const char *made) {
    fprintf(f, "{\"number\": %d, \"prompt\": ", number);
    json_text(f, p->text);
    fputs(", \"text\": ", f);
    json_text(f, made);
    put_ids(f, "prompt_ids", p->ids, p->n);
    put_ids(f, "ids", p->ids + p->n, p->made);
    fputs(", \"log_probabilities\": [", f);
    for (int i = 0; i < p->made; i++) fprintf(f, "%s%.9g", i ? ", " : "", p->log_p[i]);
    fprintf(f, "], \"ends\": \"%s\"}\n", p->ends);
}
