// table - open addressing with linear probing, at most half full. Contract in table.h.
#include "table.h"
#include <stdlib.h>
#include <string.h>

static struct u64_slot *u64_find(const u64_table *t, uint64_t key) {
    // Fibonacci hashing over the folded halves: the keys are pairs of small ids
    uint64_t h = (key ^ key >> 29) * 0x9e3779b97f4a7c15u;
    size_t i = (h ^ h >> 32) & (t->cap - 1);
    while (t->slot[i].used && t->slot[i].key != key) i = (i + 1) & (t->cap - 1);
    return &t->slot[i];
}

int32_t u64_get(const u64_table *t, uint64_t key) {
    if (!t->n) return -1;
    const struct u64_slot *s = u64_find(t, key);
    return s->used ? s->value : -1;
}

void u64_put(u64_table *t, uint64_t key, int32_t value) {
    if (2 * (t->n + 1) > t->cap) {
        u64_table old = *t;
        t->cap = old.cap ? 2 * old.cap : 64;
        t->slot = xcalloc(t->cap, sizeof *t->slot);
        for (size_t i = 0; i < old.cap; i++)
            if (old.slot[i].used) *u64_find(t, old.slot[i].key) = old.slot[i];
        free(old.slot);
    }
    struct u64_slot *s = u64_find(t, key);
    t->n += !s->used;
    *s = (struct u64_slot){key, value, true};
}

void u64_free(u64_table *t) {
    free(t->slot);
    *t = (u64_table){0};
}

static struct str_slot *str_find(const str_table *t, const char *key, size_t bytes) {
    size_t i = hash64(key, bytes) & (t->cap - 1);
    while (t->slot[i].key && (t->slot[i].bytes != bytes || memcmp(t->slot[i].key, key, bytes) != 0))
        i = (i + 1) & (t->cap - 1);
    return &t->slot[i];
}

int32_t str_get(const str_table *t, const char *key, size_t bytes) {
    if (!t->n) return -1;
    const struct str_slot *s = str_find(t, key, bytes);
    return s->key ? s->value : -1;
}

void str_put(str_table *t, const char *key, size_t bytes, int32_t value) {
    if (2 * (t->n + 1) > t->cap) {
        str_table old = *t;
        t->cap = old.cap ? 2 * old.cap : 64;
        t->slot = xcalloc(t->cap, sizeof *t->slot);
        for (size_t i = 0; i < old.cap; i++)
            if (old.slot[i].key) *str_find(t, old.slot[i].key, old.slot[i].bytes) = old.slot[i];
        free(old.slot);
    }
    struct str_slot *s = str_find(t, key, bytes);
    if (s->key) {
        s->value = value;
        return;
    }
    *s = (struct str_slot){key, bytes, value};
    t->n++;
}

void str_free(str_table *t) {
    free(t->slot);
    *t = (str_table){0};
}
