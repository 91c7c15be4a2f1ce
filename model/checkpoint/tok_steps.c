// tok_steps - from a text to the pieces that are merged: added tokens are taken out, what lies between them is
// normalized and cut (added_vocabulary.rs, normalizers and pre_tokenizers of the `tokenizers` library, version 0.23).
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>
#include "tok_impl.h"

// ---------------------------------------------------------------- added tokens
static UChar32 char_at(const char *text, size_t at, size_t bytes) {
    int32_t i = (int32_t)at;
    UChar32 c;
    U8_NEXT(text, i, (int32_t)bytes, c);
    return c;
}

static UChar32 char_before(const char *text, size_t at) {
    int32_t i = (int32_t)at;
    UChar32 c;
    U8_PREV(text, 0, i, c);
    return c;
}

// \w as the regex crate of Rust has it.
static bool is_word(UChar32 c) {
    return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) ||
           (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK));
}

static const added_token *token_at(const added_tokens *a, const char *text, size_t left) {
    if (!a->begins[(unsigned char)*text]) return NULL;
    for (int i = 0; i < a->n; i++)
        if (a->t[i].bytes <= left && memcmp(a->t[i].text, text, a->t[i].bytes) == 0) return &a->t[i];
    return NULL;
}

static bool within_word(const char *text, size_t begin, size_t end, size_t bytes) {
    return (begin > 0 && is_word(char_before(text, begin))) || (end < bytes && is_word(char_at(text, end, bytes)));
}

// The text between added tokens and these, in order; first: `text` is the beginning of the whole text.
typedef int between_fn(const tok *t, const char *text, size_t bytes, bool first, piece_fn *fn, void *ctx);
static int take_tokens(const tok *t, const added_tokens *a, const char *text, size_t bytes, bool first,
                       between_fn *between, piece_fn *fn, void *ctx) {
    size_t used = 0;
    for (size_t at = 0; a->n && at < bytes;) {
        const added_token *x = token_at(a, text + at, bytes - at);
        if (!x) {
            at++;
            continue;
        }
        size_t begin = at, end = at + x->bytes;
        at = end;
        if (x->single_word && within_word(text, begin, end, bytes)) continue;
        while (x->lstrip && begin > used && u_isUWhiteSpace(char_before(text, begin)))
            begin -= (size_t)U8_LENGTH(char_before(text, begin));
        while (x->rstrip && end < bytes && u_isUWhiteSpace(char_at(text, end, bytes)))
            end += utf8_length(text + end, bytes - end);
        if (used < begin && between(t, text + used, begin - used, first && used == 0, fn, ctx)) return -1;
        if (fn(ctx, NULL, 0, x->id)) return -1;
        used = end;
    }
    return used < bytes ? between(t, text + used, bytes - used, first && used == 0, fn, ctx) : 0;
}

static int by_length(const void *a, const void *b) {
    const added_token *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

void tok_look_for(added_tokens *a, added_token x) {
    VEC_PUSH(a->t, a->n, a->cap, x);
    a->begins[(unsigned char)*x.text] = true;
}

void tok_order_added(added_tokens *a) {
    if (a->n) qsort(a->t, (size_t)a->n, sizeof *a->t, by_length);
}

// ---------------------------------------------------------------- normalizing
// A growing text.
typedef struct {
    char *at;
    size_t n, cap;
} buffer;

static void append(buffer *b, const char *text, size_t bytes) {
    if (b->n + bytes > b->cap) b->at = xrealloc(b->at, b->cap = 2 * (b->n + bytes));
    memcpy(b->at + b->n, text, bytes);
    b->n += bytes;
}

static void append_nfc(buffer *b, const char *text, size_t bytes) {
    size_t i = 0;
    while (i < bytes && (unsigned char)text[i] < 0xcc) i++;
    if (i == bytes) {  // below U+0300 nothing composes
        append(b, text, bytes);
        return;
    }
    UErrorCode bad = U_ZERO_ERROR;
    const UNormalizer2 *nfc = unorm2_getNFCInstance(&bad);
    UChar *wide = xmalloc((bytes + 1) * sizeof *wide), *made = xmalloc((3 * bytes + 1) * sizeof *made);
    int32_t n = 0, m = 0;
    u_strFromUTF8(wide, (int32_t)bytes + 1, &n, text, (int32_t)bytes, &bad);
    m = unorm2_normalize(nfc, wide, n, made, (int32_t)(3 * bytes + 1), &bad);
    char *narrow = xmalloc(3 * (size_t)m + 1);
    u_strToUTF8(narrow, 3 * m + 1, &n, made, m, &bad);
    ASSERT(U_SUCCESS(bad));  // the text is well formed, and NFC is at most three times as long
    append(b, narrow, (size_t)n);
    free(wide);
    free(made);
    free(narrow);
}

static int append_replaced(buffer *b, const split_rule *what, const char *by, const char *text, size_t bytes) {
    split walk;
    bool matched;
    split_begin(&walk, what, text, bytes);
    for (size_t begin, end; split_next(&walk, &begin, &end, &matched);)
        if (matched)
            append(b, by, strlen(by));
        else
            append(b, text + begin, end - begin);
    const int bad = walk.failed ? -1 : 0;
    split_end(&walk);
    return bad;
}

static int normalize(const tok *t, const char *text, size_t bytes, buffer *out) {
    append(out, text, bytes);
    for (int i = 0; i < t->n_norm; i++) {
        const norm_step *s = &t->norm[i];
        buffer made = {0};
        int bad = 0;
        if (s->kind == NORM_NFC) append_nfc(&made, out->at, out->n);
        if (s->kind == NORM_PREPEND && out->n) append(&made, s->by, strlen(s->by));
        if (s->kind == NORM_PREPEND) append(&made, out->at, out->n);
        if (s->kind == NORM_REPLACE) bad = append_replaced(&made, s->what, s->by, out->at, out->n);
        free(out->at);
        *out = made;
        if (bad) return -1;
    }
    return 0;
}

int tok_normalize_added(tok *t) {
    added_tokens made = {0};
    int bad = 0;
    for (int i = 0; i < t->normalized.n; i++) {
        added_token x = t->normalized.t[i];
        buffer b = {0};
        if (!bad) bad = normalize(t, x.text, x.bytes, &b);
        free(x.text);
        x.text = xstrndup(b.n ? b.at : "", b.n);
        x.bytes = b.n;
        free(b.at);
        if (x.bytes && !bad)
            tok_look_for(&made, x);
        else
            free(x.text);
    }
    free(t->normalized.t);
    t->normalized = made;
    return bad;
}

// ---------------------------------------------------------------- cutting
typedef struct {
    size_t begin, end;
    bool matched;
} span;
typedef struct {
    span *s;
    int n, cap;
} spans;

// The cut of text[begin..end) as the step says, added to `out`.
static int cut(const piece_step *step, const char *text, size_t begin, size_t end, spans *out) {
    split walk;
    bool matched, before = false;  // before: was the last piece a match
    const int first = out->n;
    split_begin(&walk, step->rule, text + begin, end - begin);
    for (size_t b, e; split_next(&walk, &b, &e, &matched);) {
        span s = {begin + b, begin + e, matched != step->invert}, *last = out->n > first ? &out->s[out->n - 1] : NULL;
        const bool joins = last && ((step->cut == CUT_MERGED_WITH_PREVIOUS && s.matched && !before) ||
                                    (step->cut == CUT_CONTIGUOUS && s.matched == before) ||
                                    (step->cut == CUT_MERGED_WITH_NEXT && last->matched && !s.matched));
        before = s.matched;
        if (joins) {
            last->end = s.end;
            last->matched = false;
        } else if (!(step->cut == CUT_REMOVED && s.matched)) {
            VEC_PUSH(out->s, out->n, out->cap, s);
        }
    }
    const int bad = walk.failed ? -1 : 0;
    split_end(&walk);
    return bad;
}

// The pieces with the prefix before them and spaces replaced by it, as a text of their own.
static int rewrite(const piece_step *step, const char *text, const spans *in, bool first, buffer *made, spans *out) {
    const size_t n_prefix = strlen(step->prefix);
    out->n = 0;
    for (int i = 0; i < in->n; i++) {
        const size_t begin = made->n, n = in->s[i].end - in->s[i].begin;
        const char *piece = text + in->s[i].begin;
        const bool wanted = step->when == PREFIX_ALWAYS || (step->when == PREFIX_FIRST && first && in->s[i].begin == 0);
        const bool there =
            (n >= n_prefix && memcmp(piece, step->prefix, n_prefix) == 0) || (step->space && n > 0 && *piece == ' ');
        if (wanted && !there) append(made, step->prefix, n_prefix);
        if (step->space && append_replaced(made, step->space, step->prefix, piece, n)) return -1;
        if (!step->space) append(made, piece, n);
        VEC_PUSH(out->s, out->n, out->cap, ((span){begin, made->n, false}));
    }
    return 0;
}

// One step over the pieces in `now`, which it replaces; its text, too, where it is rewritten.
static int take_step(const piece_step *step, buffer *text, spans *now, spans *next, bool first) {
    int bad = 0;
    if (step->prefix) {
        buffer made = {0};
        bad = rewrite(step, text->at, now, first, &made, next);
        free(text->at);
        *text = made;
        const spans swap = *now;
        *now = *next;
        *next = swap;
    }
    if (!step->rule || bad) return bad;
    next->n = 0;
    for (int i = 0; i < now->n && !bad; i++) bad = cut(step, text->at, now->s[i].begin, now->s[i].end, next);
    const spans swap = *now;
    *now = *next;
    *next = swap;
    return bad;
}

static int cut_segment(const tok *t, const char *segment, size_t bytes, bool first, piece_fn *fn, void *ctx) {
    buffer text = {0};
    spans now = {0}, next = {0};
    int bad = 0;
    append(&text, segment, bytes);
    VEC_PUSH(now.s, now.n, now.cap, ((span){0, bytes, false}));
    for (int i = 0; i < t->n_step && !bad; i++) bad = take_step(&t->step[i], &text, &now, &next, first);
    for (int i = 0; i < now.n && !bad; i++)
        if (now.s[i].end > now.s[i].begin) bad = fn(ctx, text.at + now.s[i].begin, now.s[i].end - now.s[i].begin, -1);
    free(text.at);
    free(now.s);
    free(next.s);
    return bad;
}

static int normalize_segment(const tok *t, const char *text, size_t bytes, bool first, piece_fn *fn, void *ctx) {
    if (!t->n_norm) return take_tokens(t, &t->normalized, text, bytes, first, cut_segment, fn, ctx);
    buffer made = {0};
    int bad = normalize(t, text, bytes, &made);
    bad = bad || take_tokens(t, &t->normalized, made.at, made.n, first, cut_segment, fn, ctx);
    free(made.at);
    return bad ? -1 : 0;
}

int tok_pieces(const tok *t, const char *text, size_t bytes, piece_fn *fn, void *ctx) {
    return take_tokens(t, &t->raw, text, bytes, true, normalize_segment, fn, ctx);
}

// ---------------------------------------------------------------- the steps themselves
piece_step *tok_add_step(tok *t) {
    t->step = xrealloc(t->step, (size_t)(t->n_step + 1) * sizeof *t->step);
    t->step[t->n_step] = (piece_step){.cut = CUT_ISOLATED};
    return &t->step[t->n_step++];
}

norm_step *tok_add_norm(tok *t, text_norm kind) {
    t->norm = xrealloc(t->norm, (size_t)(t->n_norm + 1) * sizeof *t->norm);
    t->norm[t->n_norm] = (norm_step){.kind = kind};
    return &t->norm[t->n_norm++];
}

void tok_cut_as_gpt2(tok *t, const char *prefix) {
    piece_step *s = tok_add_step(t);
    s->rule = split_rule_new();
    if (prefix) {
        s->prefix = xstrdup(prefix);
        s->when = PREFIX_ALWAYS;
    }
}

static void added_free(added_tokens *a) {
    for (int i = 0; i < a->n; i++) free(a->t[i].text);
    free(a->t);
}

void tok_steps_free(tok *t) {
    added_free(&t->raw);
    added_free(&t->normalized);
    for (int i = 0; i < t->n_norm; i++) {
        split_rule_free(t->norm[i].what);
        free(t->norm[i].by);
    }
    for (int i = 0; i < t->n_step; i++) {
        free(t->step[i].prefix);
        split_rule_free(t->step[i].space);
        split_rule_free(t->step[i].rule);
    }
    free(t->norm);
    free(t->step);
}
