// folder - finding a snapshot (layout of huggingface_hub's cache). Contract in folder.h.
#include "folder.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

// The number of entries of DIR/SUB (SUB empty: DIR) whose names begin so; *one: the last of them, owned.
static int entries(const char *dir, const char *sub, const char *begin, char **one) {
    char *path = *sub ? xasprintf("%s/%s", dir, sub) : xstrdup(dir);
    DIR *d = opendir(path);
    int n = 0;
    *one = NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strncmp(e->d_name, begin, strlen(begin))) continue;
        free(*one);
        *one = xasprintf("%s/%s", path, e->d_name);
        n++;
    }
    if (d) closedir(d);
    free(path);
    return n;
}

static char *main_snapshot(const char *dir) {
    char *path = xasprintf("%s/refs/main", dir), *hash = file_exists(path) ? file_read(path, NULL) : NULL,
         *found = NULL;
    if (hash) hash[strcspn(hash, "\r\n")] = 0;
    if (hash && *hash && !strchr(hash, '/')) found = xasprintf("%s/snapshots/%s", dir, hash);
    if (found && !file_exists(found)) {
        free(found);
        found = NULL;
    }
    free(path);
    free(hash);
    return found;
}

char *model_folder(const char *dir) {
    char *config = xasprintf("%s/config.json", dir), *found = NULL;
    const bool plain = path_there(config);
    free(config);
    if (plain) return xstrdup(dir);
    int n = entries(dir, "snapshots", "", &found);
    bool cache = false;  // the cache itself, or the folder that huggingface_hub keeps it in
    if (n == 0) cache = (n = entries(dir, "", "models--", &found)) || (n = entries(dir, "hub", "models--", &found));
    if (cache && n == 1) {
        char *inner = model_folder(found);
        free(found);
        return inner;
    }
    char *snapshot = n > 1 ? main_snapshot(dir) : NULL;
    if (n == 0) return xstrdup(dir);
    if (n == 1) return found;
    if (!snapshot) err_set("%s: a cache of the hub with %d folders, such as %s; name one of them", dir, n, found);
    free(found);
    return snapshot;
}
