// test_doc_part - parts and limits: the parts of n are disjoint, cover everything and do not move with the seed; a
// larger limit extends a smaller one; few-shot examples come from the own part; pages keep their number in the file.
#include "task.h"
#include "wikitext.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static void notation(void **state) {
    (void)state;
    static const char *const bad[] = {
        "0/2",  "3/2",  "1",    "a/b",  "1/",  "/2",  "1/2x",      "-1/2",
        "1/-2", " 1/2", "1/ 2", "+1/2", "1/0", "0/0", "1/1000001", "1/99999999999999999999"};
    doc_part p;
    char text[DOC_PART_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (doc_part_parse(&p, bad[i]) != -1) fail_msg("%s is taken", bad[i]);
        assert_memory_equal(err_get(), bad[i], strlen(bad[i]));
        assert_null(strchr(err_get(), '\n'));
    }
    static const char *const good[][2] = {
        {"1/2", "1/2"}, {"2/2", "2/2"}, {"7/1000000", "7/1000000"}, {"", ""}, {"1/1", ""}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(doc_part_parse(&p, good[i][0]), 0);
        doc_part_text(text, p);
        assert_string_equal(text, good[i][1]);
    }
}

// part[k] becomes the part of n that holds k; fails unless exactly one does.
static void parts_of(int *part, int n, const char *name, int list) {
    memset(part, 0, (size_t)list * sizeof *part);
    for (int i = 1; i <= n; i++) {
        int count;
        int32_t *member = doc_part_members((doc_part){i, n}, name, list, &count);
        if (count != list / n) assert_int_equal(count, list / n + 1);
        for (int k = 0; k < count; k++) {
            assert_in_range(member[k], 0, list - 1);
            assert_true(k == 0 || member[k] > member[k - 1]);
            assert_int_equal(part[member[k]], 0);
            part[member[k]] = i;
        }
        free(member);
    }
    for (int k = 0; k < list; k++) assert_true(part[k] > 0);
}

static void disjoint_and_whole(void **state) {
    (void)state;
    int part[1000], other[1000];
    for (int n = 2; n <= 9; n++) {
        static const int lists[] = {1, 2, 7, 8, 9, 100, 1000};
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) parts_of(part, n, "copa", lists[i]);
    }
    parts_of(part, 2, "copa", 1000);
    parts_of(other, 4, "copa", 1000);
    for (int k = 0; k < 1000; k++) assert_int_equal((other[k] + 1) / 2, part[k]);
    // drawn: neighbours are in the same half about as often as not (999 pairs, standard deviation 16), and another list
    // is cut elsewhere
    int together = 0, same = 0;
    parts_of(other, 2, "piqa", 1000);
    for (int k = 0; k < 1000; k++) {
        same += part[k] == other[k];
        together += k > 0 && part[k] == part[k - 1];
    }
    assert_in_range(together, 420, 580);
    assert_in_range(same, 420, 580);
    int n;
    int32_t *all = doc_part_members((doc_part){0}, "copa", 10, &n);
    assert_int_equal(n, 10);
    for (int k = 0; k < n; k++) assert_int_equal(all[k], k);
    free(all);
}

// ---------------------------------------------------------------- documents
enum { ROWS = 41 };

static void write_rows(const char *path, int first, int n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = first; i < first + n; i++)
        fprintf(f, "{\"goal\": \"g%d\", \"sol1\": \"yes\", \"sol2\": \"no\", \"label\": %d, \"id\": \"r%d\"}\n", i,
                i % 2, i);
    fclose(f);
}

static int number_of(const task_doc *d) { return atoi(d->id + 1); }

static void open_part(task_split *s, const char *dir, const char *split, doc_part p) {
    if (task_open(s, dir, "piqa", split, true) || task_keep_part(s, p)) fail_msg("%s", err_get());
}

// What `limit` documents of a part are, by the order of a seed.
static void take(bool *seen, const task_split *s, uint64_t seed, int limit) {
    int32_t *order = task_order(s, seed);
    memset(seen, 0, ROWS * sizeof *seen);
    for (int k = 0; k < limit; k++) {
        const int number = number_of(&s->docs[order[k]]);
        assert_false(seen[number]);
        seen[number] = true;
    }
    free(order);
}

// Every number that a prefix shows is of the part; returns how many.
static int shown(const char *prefix, const int *part, int first, int i) {
    int n = 0, number;
    for (const char *at = prefix; (at = strstr(at, "Question: g")); at++, n++) {
        assert_int_equal(sscanf(at, "Question: g%d", &number), 1);
        assert_int_equal(part[number - first], i);
    }
    return n;
}

static void documents(void **state) {
    const char *dir = *state;
    int of[ROWS] = {0};
    for (int i = 1; i <= 3; i++) {
        const doc_part p = {i, 3};
        task_split s, pool;
        open_part(&s, dir, "val", p);
        for (int k = 0; k < s.n; k++) {
            assert_int_equal(of[number_of(&s.docs[k])], 0);
            of[number_of(&s.docs[k])] = i;
            assert_true(k == 0 || number_of(&s.docs[k]) > number_of(&s.docs[k - 1]));
        }
        bool few[ROWS], many[ROWS], all[2][ROWS];
        int moved = 0;
        for (uint64_t seed = 0; seed < 6; seed++) {
            take(few, &s, seed, 4);
            take(many, &s, seed, 9);
            take(all[seed % 2], &s, seed, s.n);
            for (int k = 0; k < ROWS; k++) assert_true(!few[k] || many[k]);
            if (seed > 0) assert_memory_equal(all[0], all[1], sizeof *all);  // the part is the same for every seed
            bool first[ROWS];
            take(first, &s, 0, 4);
            moved += memcmp(few, first, sizeof few) != 0;
        }
        assert_in_range(moved, 3, 5);
        assert_ptr_equal(task_pool_open(&pool, dir, &s), &s);  // there is no train
        int inside = 0;
        for (int doc = 0; doc < s.n; doc++) {
            char *prefix = task_prefix(&s, &s, doc, 5, 3, MODE_SOUND);
            inside += shown(prefix, of, 0, i);
            free(prefix);
        }
        assert_int_equal(inside, 5 * s.n);
        task_close(&s);
        task_close(&pool);
    }
    for (int k = 0; k < ROWS; k++) assert_true(of[k] > 0);
    task_split s;
    assert_int_equal(task_open(&s, dir, "piqa", "val", true), 0);
    assert_int_equal(task_keep_part(&s, (doc_part){1, 50}), -1);
    assert_non_null(strstr(err_get(), "part 1/50 of 41 documents is empty"));
    task_close(&s);
}

// A pool of its own: a document of part i is shown examples of part i of the pool.
static void pools(void **state) {
    char *dir = xasprintf("%s/two", (const char *)*state), *folder = xasprintf("%s/piqa", dir), *path[2];
    mkdir(dir, 0777);
    mkdir(folder, 0777);
    path[0] = xasprintf("%s/val.jsonl", folder);
    path[1] = xasprintf("%s/train.jsonl", folder);
    write_rows(path[0], 0, ROWS);
    write_rows(path[1], 100, 30);
    int of[30] = {0};
    task_split s, pool;
    for (int i = 1; i <= 2; i++) {
        open_part(&pool, dir, "train", (doc_part){i, 2});
        for (int k = 0; k < pool.n; k++) of[number_of(&pool.docs[k]) - 100] = i;
        task_close(&pool);
    }
    for (int i = 1; i <= 2; i++) {
        open_part(&s, dir, "val", (doc_part){i, 2});
        assert_ptr_equal(task_pool_open(&pool, dir, &s), &pool);
        assert_int_equal(pool.n, 15);
        bool seen[ROWS] = {false}, marked[30] = {false}, want[30] = {false};
        for (int doc = 0; doc < 3; doc++) {
            char *prefix = task_prefix(&pool, &s, doc, 4, 7, MODE_SOUND);
            assert_int_equal(shown(prefix, of, 100, i), 4);
            for (int k = 0; k < pool.n; k++) {
                char *shot = xasprintf("Question: g%d\n", number_of(&pool.docs[k]));
                want[k] |= strstr(prefix, shot) != NULL;
                free(shot);
            }
            free(prefix);
            assert_int_equal(task_mark(seen, marked, &pool, &s, doc, 4, 7, MODE_SOUND), 0);
        }
        for (int k = 0; k < s.n; k++) assert_int_equal(seen[k], k < 3);
        assert_memory_equal(marked, want, sizeof want);
        task_close(&pool);
        task_close(&s);
    }
    for (int i = 0; i < 2; i++) {
        unlink(path[i]);
        free(path[i]);
    }
    rmdir(folder);
    rmdir(dir);
    free(folder);
    free(dir);
}

// ---------------------------------------------------------------- pages
enum { PAGES = 23 };

static char *page_text(int i) { return xasprintf(" = Page %d = \n \n Text %d of it . \n ", i, i); }

static char *all_pages(const bool *some) {
    char *text = NULL;
    for (int i = 0; i < PAGES; i++) {
        char *page = page_text(i), *before = text;
        if (!some || some[i]) text = before ? xasprintf("%s\n%s", before, page) : xstrdup(page);
        if (text != before) free(before);
        free(page);
    }
    return text;
}

static void keep_pages(wikitext *w, bool *kept, doc_part p, long limit, uint64_t seed) {
    char *text = all_pages(NULL);
    assert_int_equal(wikitext_parse(w, text, strlen(text)), 0);
    assert_int_equal(w->n, PAGES);
    if (wikitext_keep(w, p, limit, &seed)) fail_msg("%s", err_get());
    memset(kept, 0, PAGES * sizeof *kept);
    for (int i = 0; i < w->n; i++) {
        char *want = page_text(w->pages[i].number);
        assert_string_equal(w->pages[i].raw, want);
        assert_true(i == 0 || w->pages[i].number > w->pages[i - 1].number);
        kept[w->pages[i].number] = true;
        free(want);
    }
    char *joined = all_pages(kept);
    assert_string_equal(w->raw, joined);
    assert_int_equal(w->raw_bytes, strlen(joined));
    free(joined);
    free(text);
}

static int count(const bool *kept) {
    int n = 0;
    for (int i = 0; i < PAGES; i++) n += kept[i];
    return n;
}

static void pages(void **state) {
    (void)state;
    wikitext w;
    bool kept[PAGES], again[PAGES], more[PAGES], first[PAGES], used[PAGES] = {false};
    keep_pages(&w, kept, (doc_part){0}, 0, 5);
    assert_int_equal(count(kept), PAGES);
    wikitext_close(&w);
    int moved = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        keep_pages(&w, kept, (doc_part){0}, 5, seed);
        wikitext_close(&w);
        keep_pages(&w, again, (doc_part){0}, 5, seed);
        wikitext_close(&w);
        keep_pages(&w, more, (doc_part){0}, 9, seed);
        wikitext_close(&w);
        assert_int_equal(count(kept), 5);
        assert_int_equal(count(more), 9);
        assert_memory_equal(kept, again, sizeof kept);
        if (seed == 0) memcpy(first, kept, sizeof first);
        moved += memcmp(kept, first, sizeof kept) != 0;
        for (int i = 0; i < PAGES; i++) {
            assert_true(!kept[i] || more[i]);
            used[i] |= kept[i];
        }
    }
    assert_in_range(moved, 18, 19);
    assert_in_range(count(used), 20, PAGES);  // a page is left out of 20 draws with a chance of 0.7 %
    int of[PAGES] = {0};
    for (int i = 1; i <= 3; i++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            keep_pages(&w, kept, (doc_part){i, 3}, 0, seed);
            for (int k = 0; k < PAGES; k++) {
                if (kept[k] && seed == 0) assert_int_equal(of[k], 0);
                if (kept[k] && seed == 0) of[k] = i;
                assert_int_equal(kept[k], of[k] == i);
            }
            wikitext_close(&w);
            keep_pages(&w, more, (doc_part){i, 3}, 4, seed);
            assert_int_equal(count(more), 4);
            for (int k = 0; k < PAGES; k++) assert_true(!more[k] || of[k] == i);
            wikitext_close(&w);
        }
    for (int k = 0; k < PAGES; k++) assert_true(of[k] > 0);
    assert_int_equal(wikitext_parse(&w, "one page", 8), 0);
    assert_int_equal(wikitext_keep(&w, (doc_part){1, 2}, 0, NULL), -1);
    assert_non_null(strstr(err_get(), "part 1/2 of 1 pages is empty"));
    wikitext_close(&w);
}

static int make_root(void **state) {
    char name[] = "/tmp/test_doc_part.XXXXXX";
    if (!mkdtemp(name)) return -1;
    char *dir = xstrdup(name), *folder = xasprintf("%s/piqa", dir), *path = xasprintf("%s/valid.jsonl", folder);
    mkdir(folder, 0777);
    write_rows(path, 0, ROWS);
    free(path);
    free(folder);
    *state = dir;
    return 0;
}

static int remove_root(void **state) {
    char *dir = *state, *folder = xasprintf("%s/piqa", dir), *path = xasprintf("%s/valid.jsonl", folder);
    unlink(path);
    rmdir(folder);
    rmdir(dir);
    free(path);
    free(folder);
    free(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notation),  cmocka_unit_test(disjoint_and_whole),
        cmocka_unit_test(documents), cmocka_unit_test(pools),
        cmocka_unit_test(pages),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root) ? 1 : 0;
}
