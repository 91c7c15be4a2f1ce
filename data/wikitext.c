// wikitext - pages, detokeniser and windows of running text. Contracts in wikitext.h; rules in METHOD 3.5.
#include "wikitext.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

// ---------------------------------------------------------------- pages
static bool opens_page(const char *line, size_t n) {
    char *s = xstrndup(line, n);
    text_strip(text_replace(text_replace(s, "= = =", "==="), "= =", "=="));
    size_t m = strlen(s);
    bool yes = m >= 2 && !strncmp(s, "= ", 2) && !strcmp(s + m - 2, " =");
    free(s);
    return yes;
}

// Where the first `most` pieces of splitting at runs of white space end, an empty first and last one included; *pieces:
// how many there are up to there.
static const char *pieces_end(const char *s, long most, long *pieces) {
    bool inside = false;  // a run of white space
    for (*pieces = 1; *s;) {
        const size_t n = text_space(s);
        if (n && !inside && ++*pieces > most) {
            *pieces = most;
            break;
        }
        inside = n > 0;
        s += n ? n : 1;
    }
    return s;
}
static long count_words(const char *s) {
    long words;
    pieces_end(s, LONG_MAX, &words);
    return words;
}

static void add_page(wikitext *w, int *cap, const char *from, const char *to) {
    char *raw = xstrndup(from, (size_t)(to - from));
    if (text_blank(raw)) {
        free(raw);
        return;
    }
    wikitext_page page = {
        .raw = raw, .text = wikitext_detokenise(raw), .words = count_words(raw), .bytes = to - from, .number = w->n};
    VEC_PUSH(w->pages, w->n, *cap, page);
}

int wikitext_parse(wikitext *w, const char *bytes, size_t n) {
    *w = (wikitext){0};
    const char *zero = memchr(bytes, 0, n);
    if (zero) return err_set("byte %zu is zero; this is not a text file", (size_t)(zero - bytes));
    w->raw = xstrndup(bytes, n);
    w->raw_bytes = n;
    hash_bytes(w->hash, bytes, n);
    int cap = 0;
    const char *page = w->raw, *end = w->raw + n;
    for (const char *line = page;;) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        if (line > page && opens_page(line, (size_t)((feed ? feed : end) - line))) {
            add_page(w, &cap, page, line - 1);  // the line feed between two pages belongs to neither
            page = line;
        }
        if (!feed) break;
        line = feed + 1;
    }
    add_page(w, &cap, page, end);
    if (w->n > 0) return 0;
    wikitext_close(w);
    return err_set("holds no text");
}

void wikitext_close(wikitext *w) {
    for (int i = 0; i < w->n; i++) {
        free(w->pages[i].raw);
        free(w->pages[i].text);
    }
    free(w->pages);
    free(w->raw);
    *w = (wikitext){0};
}

// The pages that are marked stay.
static void keep(wikitext *w, const bool *marked) {
    int kept = 0;
    size_t bytes = 0;
    for (int i = 0; i < w->n; i++) {
        if (!marked[i]) {
            free(w->pages[i].raw);
            free(w->pages[i].text);
            continue;
        }
        bytes += (size_t)w->pages[i].bytes + (kept > 0);
        w->pages[kept++] = w->pages[i];
    }
    w->n = kept;
    w->raw_bytes = bytes;  // of a text that is shorter than before
    char *end = w->raw;
    for (int i = 0; i < kept; i++) {
        if (i > 0) *end++ = '\n';
        memcpy(end, w->pages[i].raw, (size_t)w->pages[i].bytes);
        end += w->pages[i].bytes;
    }
    *end = 0;
}

int wikitext_keep(wikitext *w, doc_part p, long limit, const uint64_t *seed) {
    int n;
    int32_t *member = doc_part_members(p, "wikitext", w->n, &n), *order = seed ? doc_order("wikitext", n, *seed) : NULL;
    const int some = limit > 0 && limit < n ? (int)limit : n;
    bool *marked = xcalloc((size_t)w->n, sizeof *marked);
    for (int k = 0; k < some; k++) marked[member[order ? order[k] : k]] = true;
    if (n > 0 && some < w->n) keep(w, marked);
    free(marked);
    free(order);
    free(member);
    return n ? 0 : err_set("part %d/%d of %d pages is empty; take fewer parts", p.i, p.n, w->n);
}

void wikitext_cut(wikitext *w, long words) {
    bool *all = xmalloc((size_t)w->n * sizeof *all);
    for (int i = 0; i < w->n; i++) {
        wikitext_page *page = &w->pages[i];
        all[i] = true;
        if (page->words <= words) continue;
        page->bytes = pieces_end(page->raw, words, &page->words) - page->raw;
        page->raw[page->bytes] = 0;
        free(page->text);
        page->text = wikitext_detokenise(page->raw);
    }
    keep(w, all);
    free(all);
}

char *wikitext_gptq_text(const wikitext *w) {
    char *out = xmalloc(3 * w->raw_bytes + 1), *o = out;  // a line is at least one byte and brings two
    for (const char *line = w->raw, *end = line + w->raw_bytes; line < end;) {
        const char *feed = memchr(line, '\n', (size_t)(end - line)), *next = feed ? feed + 1 : end;
        if (line > w->raw) {
            *o++ = '\n';
            *o++ = '\n';
        }
        size_t n = (size_t)(next - line);
        memcpy(o, line, n);
        o[n] = 0;
        if (!text_blank(o)) o += n;
        line = next;
    }
    *o = 0;
    return out;
}

// ---------------------------------------------------------------- the detokeniser
// White space off both ends of what stands between a pair: from the first opening character to the next closing one,
// and on after it.
static void tighten(char *s, char open, char close) {
    char *out = s;
    for (const char *in = s;;) {
        const char *from = strchr(in, open), *to = from ? strchr(from + 1, close) : NULL;
        size_t n = to ? (size_t)(from + 1 - in) : strlen(in);
        memmove(out, in, n);
        out += n;
        if (!to) break;
        char *inside = xstrndup(from + 1, (size_t)(to - from - 1));
        n = strlen(text_strip(inside));
        memcpy(out, inside, n);
        out += n;
        *out++ = close;
        in = to + 1;
        free(inside);
    }
    *out = 0;
}

char *wikitext_detokenise(const char *page) {
    typedef struct {
        const char *from, *to;
    } rule;
    static const rule before[] =
        {
            {"s '", "s'"}, {" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}, {" : ", ": "},
            {" ; ", "; "}, {" . ", ". "},  {" ! ", "! "},  {" ? ", "? "},  {" , ", ", "},
        },
                      after[] = {
                          {"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="},  {" \xc2\xb0 ", "\xc2\xb0"},
                          {" \n", "\n"},       {"\n ", "\n"},    {" N ", " 1 "}, {" 's", "'s"},
                      };
    static const char pairs[][2] = {{'(', ')'}, {'[', ']'}, {'{', '}'}, {'"', '"'}, {'\'', '\''}};
    char *s = xstrdup(page);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) text_replace(s, before[i].from, before[i].to);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) tighten(s, pairs[i][0], pairs[i][1]);
    for (size_t i = 0; i < sizeof after / sizeof *after; i++) text_replace(s, after[i].from, after[i].to);
    return s;
}

// ---------------------------------------------------------------- windows
int text_windows_rolling(int n, int most, text_window **w) {
    ASSERT(most > 0);
    int count = 0, cap = 0;
    *w = NULL;
    for (int done = 0; done < n;) {
        int predicted = n - done < most ? n - done : most, last = done + predicted;
        int start = last > most ? last - most : 0;  // the input ends one before the last predicted position
        text_window x = {.start = start, .n = last - start, .predicted = predicted};
        VEC_PUSH(*w, count, cap, x);
        done = last;
    }
    return count;
}

int text_windows_disjoint(int n, int most, bool gptq, text_window **w) {
    ASSERT(most > 1);
    int count = 0, cap = 0;
    *w = NULL;
    for (int start = 0; gptq ? n - start >= most : start < n; start += most) {
        int inputs = n - start < most ? n - start : most;
        if (gptq) inputs = most - 1;
        text_window x = {.start = start, .n = inputs, .predicted = inputs};
        VEC_PUSH(*w, count, cap, x);
    }
    return count;
}
