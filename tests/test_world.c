// test_world - the default world: the template language, determinism, balance, held-out questions, and the pages' raw
// form.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "task.h"
#include "wikitext.h"
#include "world_sets.h"

static char *folder_a, *folder_b;

static int set_up(void **state) {
    (void)state;
    folder_a = xstrdup("/tmp/test_world_XXXXXX");
    folder_b = xstrdup("/tmp/test_world_XXXXXX");
    return mkdtemp(folder_a) && mkdtemp(folder_b) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char *command = xasprintf("rm -rf '%s' '%s'", folder_a, folder_b);
    const int bad = system(command);
    free(command);
    free(folder_a);
    free(folder_b);
    return bad;
}

static void test_fill(void **state) {
    (void)state;
    world w;
    world_open(&w, 3);
    const struct {
        const char *table, *name, *tmpl, *want;
    } cases[] = {
        {"animal", "owl", "{A x} eats {x.food}; {s x} fly.", "An owl eats mice; owls fly."},
        {"animal", "wolf", "{S x} and {the x}", "Wolves and the wolf"},
        {"animal", "mouse", "{s x}, {a x.class}", "Mice, a mammal"},
        {"animal", "fly", "{s x}", "Flies"},
        {"animal", "fox", "{s x}", "Foxes"},
        {"food", "~milk", "{a x}, {the x}, {s x}, {x}", "Some milk, the milk, milk, milk"},
        {"tool", "+scissors", "{a x} on {the x}", "Scissors on the scissors"},
        {"weather", "rain", "{A x.need}", "An umbrella"},
    };
    prose t = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        binding b = world_binding();
        b.table = world_table_find(&w, cases[i].table);
        for (b.x = 0; strcmp(world_cell(&w, b.table, b.x, NULL), cases[i].name) != 0;)
            assert_true(++b.x < w.table_rows[b.table]);
        prose_clear(&t);
        assert_true(world_fill(&w, &b, &t, cases[i].tmpl, true));
        assert_string_equal(t.s, cases[i].want);
    }
    binding b = world_binding();  // Anna is the first of the persons, Tom the second
    b.person[0] = 0;
    b.person[1] = 1;
    prose_clear(&t);
    assert_true(
        world_fill(&w, &b, &t, "{He P} saw {Q}; {he Q} saw {him P} and {his P} dog, not {his Q} or {him Q}.", false));
    assert_string_equal(t.s, "She saw Tom; he saw her and her dog, not his or him.");
    b = world_binding();
    b.table = world_table_find(&w, "animal");
    for (b.x = 0; strcmp(world_cell(&w, b.table, b.x, NULL), "trout") != 0;) b.x++;
    assert_false(world_fill(&w, &b, &t, "{x.sound}", false));  // a property that it does not have
    for (int i = 0; i < 300; i++) {                            // two slots never stand for the same word
        b = world_binding();
        prose_clear(&t);
        world_fill(&w, &b, &t, "{#colour} {#colour2} {P} {Q}", false);
        char one[16], two[16], p[16], q[16];
        assert_int_equal(sscanf(t.s, "%15s %15s %15s %15s", one, two, p, q), 4);
        assert_string_not_equal(one, two);
        assert_string_not_equal(p, q);
    }
    prose_free(&t);
    world_close(&w);
}

// The reader of WikiText must give back the page that was put into its form.
static void test_raw_form(void **state) {
    (void)state;
    world w;
    world_open(&w, 5);
    prose page = {0}, raw = {0};
    world_wikitext(&raw, " = Owl =\n\nA five-year-old said: \"Come, owl!\" Then it flew; why?\n");
    assert_string_equal(raw.s,
                        " = Owl = \n \n A five @-@ year @-@ old said : \" Come , owl ! \" Then it flew ; why ? \n");
    for (int i = 0; i < 200; i++) {
        prose_clear(&page);
        prose_clear(&raw);
        world_page(&w, &page);
        world_wikitext(&raw, page.s);
        char *back = wikitext_detokenise(raw.s);
        assert_string_equal(back, page.s);
        free(back);
    }
    prose_free(&page);
    prose_free(&raw);
    world_close(&w);
}

static char *bytes_of(const char *dir, const char *name) {
    char *path = xasprintf("%s/%s", dir, name), *s = file_read(path, NULL);
    free(path);
    assert_non_null(s);
    return s;
}

static void test_deterministic(void **state) {
    (void)state;
    const char *const names[] = {"text/world.txt",        "wikitext/held-out.raw", "piqa/valid.jsonl",
                                 "piqa/train-labels.lst", "copa/val.jsonl",        "openbookqa/dev.jsonl",
                                 "winogrande/dev.jsonl",  "rte/train.jsonl",       "hellaswag/val.jsonl",
                                 "arc_easy/train.jsonl"};
    world_counts c;
    for (int seed = 7; seed < 9; seed++) {
        const world_size a = {100000, 40, 40, 7}, b = {100000, 40, 40, (uint64_t)seed};
        assert_int_equal(world_write(folder_a, &a, &c), 0);
        assert_int_equal(world_write(folder_b, &b, &c), 0);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char *x = bytes_of(folder_a, names[i]), *y = bytes_of(folder_b, names[i]);
            assert_int_equal(strcmp(x, y) == 0, seed == 7);
            free(x);
            free(y);
        }
    }
}

static void test_fair_and_complete(void **state) {
    (void)state;
    world_counts c;
    world_report r;
    const world_size size = {2300000, 600, 300, 1};
    assert_int_equal(world_write(folder_a, &size, &c), 0);
    assert_int_equal(world_check(folder_a, &r), 0);
    for (int t = 0; t < WORLD_TASKS; t++) {
        const world_set_report *s = &r.set[t];
        assert_true(s->rows[0] >= 500 && s->rows[1] >= 200);
        const bool two = t == PIQA || t == COPA || t == WINOGRANDE || t == RTE;
        assert_true(s->chance > (two ? 0.5 : 0.25) - 1e-9 && s->chance < (two ? 0.5 : 0.25) + 1e-9);
        assert_int_equal(s->leaked, 0);
        for (int v = 0; v < 2; v++)  // the groups make every blind choice exact chance
            for (int k = 0; k < BLIND; k++)
                assert_true(s->blind[v][k] > s->chance - 1e-6 && s->blind[v][k] < s->chance + 1e-6);
    }
    assert_int_equal(r.untold, 0);
    assert_true(r.text.templates >= 200 && r.text.vocabulary >= 1400 && r.text.words >= 1500000);
    char *path = xasprintf("%s/wikitext/held-out.raw", folder_a);
    wikitext pages = {0};
    size_t bytes;
    char *text = file_read(path, &bytes);
    assert_int_equal(wikitext_parse(&pages, text, bytes), 0);
    free(text);
    assert_int_equal(pages.n, c.pages);
    wikitext_close(&pages);
    free(path);
}

// The check itself must see a held-out question that got into the text, and answers that favour a place.
static void test_check_sees(void **state) {
    (void)state;
    const world_size size = {100000, 40, 40, 9};
    world_counts c;
    world_report r;
    assert_int_equal(world_write(folder_a, &size, &c), 0);
    task_split s = {0};
    assert_int_equal(task_open(&s, folder_a, "arc_easy", "val", false), 0);
    char *path = xasprintf("%s/text/world.txt", folder_a);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fprintf(f, "%s%s\n\n", s.docs[0].context[0], s.docs[0].choice[s.docs[0].gold]);
    fclose(f);
    free(path);
    task_close(&s);
    path = xasprintf("%s/piqa/valid-labels.lst", folder_a);
    f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 40; i++) fprintf(f, "1\n");
    fclose(f);
    free(path);
    assert_int_equal(world_check(folder_a, &r), 0);
    assert_int_equal(r.set[ARC_EASY].leaked, 1);
    assert_true(r.set[PIQA].blind[1][BY_LAST] == 1.0 && r.set[PIQA].blind[1][BY_FIRST] == 0.0);
}

// The hypothesis alone does not give the answer away: each stands after as many premises that entail it as not.
static void test_hypothesis_alone(void **state) {
    (void)state;
    task_split s = {0};
    assert_int_equal(task_open(&s, "data/world", "rte", "val", false), 0);
    for (int i = 0; i < s.n; i++) {
        const char *mine = strchr(s.docs[i].context[0], '\n');
        int sum = 0;
        assert_non_null(mine);
        for (int k = 0; k < s.n; k++)
            if (strcmp(strchr(s.docs[k].context[0], '\n'), mine) == 0) sum += s.docs[k].gold ? 1 : -1;
        assert_int_equal(sum, 0);
    }
    task_close(&s);
}

// The default model on questions of another seed; and a set whose answers a model can tell without the question is
// seen.
static void test_model(void **state) {
    (void)state;
    const world_size size = {20000, 10, 30, 11};
    world_counts c;
    world_model_report r;
    assert_int_equal(world_write(folder_a, &size, &c), 0);
    assert_int_equal(world_check_model(folder_a, "model/default", &r), 0);
    for (int t = 0; t < WORLD_TASKS; t++) {
        for (int v = 0; v < 2; v++)
            assert_true(r.blind[t][v] > r.chance[t] - 1e-6 && r.blind[t][v] < r.chance[t] + 1e-6);
        if (r.accuracy[t] < r.chance[t] + 0.15) fail_msg("%s: accuracy %.3f", world_task_names[t], r.accuracy[t]);
    }
    char *path = xasprintf("%s/rte/dev.jsonl", folder_a), *rows = file_read(path, NULL);
    assert_non_null(rows);
    for (char *at = rows; (at = strstr(at, "\"label\": 1")); at++) at[9] = '0';
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(rows, f);
    fclose(f);
    free(rows);
    free(path);
    assert_int_equal(world_check_model(folder_a, "model/default", &r), 0);
    // its candidates are the same in every row, and so is the choice
    assert_true(r.blind[RTE][1] == 0.0 || r.blind[RTE][1] == 1.0);
    assert_true(r.blind[RTE][0] > 0.5 - 1e-6 && r.blind[RTE][0] < 0.5 + 1e-6);
    assert_int_equal(world_check_model(folder_a, "/nonexistent", &r), -1);
    assert_non_null(strstr(err_get(), "/nonexistent"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fill),          cmocka_unit_test(test_raw_form),
                                       cmocka_unit_test(test_deterministic), cmocka_unit_test(test_fair_and_complete),
                                       cmocka_unit_test(test_check_sees),    cmocka_unit_test(test_hypothesis_alone),
                                       cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
