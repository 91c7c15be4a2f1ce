// registry - the table of criteria. Contract in registry.h.
#include "registry.h"
#include "arch.h"
#include "base.h"
#include "cli.h"
#include <stdlib.h>
#include <string.h>

#define CRIT(name) extern const criterion crit_##name;
#include "crit_list.h"
#undef CRIT

const criterion *const crit_all[] = {
#define CRIT(name) &crit_##name,
#include "crit_list.h"
#undef CRIT
    NULL};

const criterion *crit_find(const char *name) {
    for (int i = 0; crit_all[i]; i++)
        if (strcmp(crit_all[i]->name, name) == 0) return crit_all[i];
    return NULL;
}

const criterion **crit_select(const char *list, int *n) {
    int total = 0, names = 0;
    while (crit_all[total]) total++;
    char **name = cli_split(list, &names);
    const criterion **out = xcalloc((size_t)total + 1, sizeof *out);
    *n = 0;
    if (names == 0) err_set("no criterion is named");
    bool *take = xcalloc((size_t)total, sizeof *take), bad = names == 0;
    for (int i = 0; i < names && !bad; i++) {
        bool all = strcmp(name[i], "all") == 0, hit = false;
        for (int j = 0; j < total; j++) {
            if (all ? crit_all[j]->by_name_only : strcmp(name[i], crit_all[j]->name) != 0) continue;
            take[j] = hit = true;
        }
        if (hit) continue;
        char known[512] = "";
        for (int j = 0; j < total; j++)
            snprintf(known + strlen(known), sizeof known - strlen(known), " %s", crit_all[j]->name);
        err_set("unknown criterion %s; the criteria are: all%s", name[i], known);
        bad = true;
    }
    for (int j = 0; j < total && !bad; j++)
        if (take[j]) out[(*n)++] = crit_all[j];
    free(take);
    free(name);
    if (!bad) return out;
    free(out);
    return NULL;
}

int crit_check_neurons(const criterion *c, const model_config *m) {
    const arch a = arch_of(m);
    if (!c->zeros_only || a.gated || a.act == ACT_RELU) return 0;
    return err_set("criterion %s scores all neurons of a layer alike where the activation is %s, whose gradient is "
                   "nowhere 0; take --units heads, or another criterion",
                   c->name, activation_names[a.act]);
}
