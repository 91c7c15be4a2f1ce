// tok_merge - merging the symbols of one piece by rank (Sennrich, Haddow and Birch 2016). A heap holds the adjacent
// pairs that have a merge, by rank and then by position; the symbols are a linked list. So n symbols cost n log n.
#include <stdlib.h>
#include "tok_impl.h"

void merge_reserve(merge_scratch *s, int n) {
    if (n <= s->cap) return;
    s->cap = n < 256 ? 256 : n;
    s->id = xrealloc(s->id, (size_t)s->cap * sizeof *s->id);
    s->prev = xrealloc(s->prev, (size_t)s->cap * sizeof *s->prev);
    s->next = xrealloc(s->next, (size_t)s->cap * sizeof *s->next);
    // n - 1 pairs at the start and two more per merge
    s->heap = xrealloc(s->heap, 3 * (size_t)s->cap * sizeof *s->heap);
}

void merge_free(merge_scratch *s) {
    free(s->id);
    free(s->prev);
    free(s->next);
    free(s->heap);
}

static void heap_push(merge_scratch *s, uint64_t x) {
    int i = s->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2] > x; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = x;
}

static uint64_t heap_pop(merge_scratch *s) {
    uint64_t top = s->heap[0], x = s->heap[--s->n_heap];
    int i = 0;
    for (int k; (k = 2 * i + 1) < s->n_heap; i = k) {
        if (k + 1 < s->n_heap && s->heap[k + 1] < s->heap[k]) k++;
        if (s->heap[k] >= x) break;
        s->heap[i] = s->heap[k];
    }
    s->heap[i] = x;
    return top;
}

// Rank of the pair that begins at list entry i, -1: none.
static int32_t rank_at(const tok *t, const merge_scratch *s, int i) {
    if (i < 0 || s->id[i] < 0 || s->next[i] < 0) return -1;
    return u64_get(&t->ranks, (uint64_t)(uint32_t)s->id[i] << 32 | (uint32_t)s->id[s->next[i]]);
}

static void offer(const tok *t, merge_scratch *s, int i) {
    int32_t rank = rank_at(t, s, i);
    if (rank >= 0) heap_push(s, (uint64_t)rank << 32 | (uint32_t)i);
}

// Merges s->id[0..n) and leaves the ids in the list that begins at entry 0.
void merge_symbols(const tok *t, merge_scratch *s, int n) {
    for (int i = 0; i < n; i++) {
        s->prev[i] = i - 1;
        s->next[i] = i + 1 < n ? i + 1 : -1;
    }
    s->n_heap = 0;
    for (int i = 0; i + 1 < n; i++) offer(t, s, i);
    while (s->n_heap) {
        uint64_t top = heap_pop(s);
        int i = (int)(uint32_t)top;
        int32_t rank = (int32_t)(top >> 32), now = rank_at(t, s, i);
        // one of its symbols has been merged since; where the new pair makes the same symbol the `tokenizers` library
        // merges it
        if (now < 0 || t->result[now] != t->result[rank]) continue;
        int j = s->next[i];
        s->id[i] = t->result[rank];
        s->id[j] = -1;
        s->next[i] = s->next[j];
        if (s->next[i] >= 0) s->prev[s->next[i]] = i;
        offer(t, s, s->prev[i]);
        offer(t, s, i);
    }
}
