// parts - finished batches as files of their own. Contract and format in parts.h.
#include "parts.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "kitpart1"
enum { HASH = 32, HEAD = 8 + HASH + 8 };

// ---------------------------------------------------------------- the plan
// 0, or -1 and err_set with the first line that differs.
static int compare_plans(const char *dir, const char *there, const char *here) {
    while (*there || *here) {
        size_t n = strcspn(there, "\n"), m = strcspn(here, "\n");
        if (n != m || memcmp(there, here, n) != 0)
            return err_set("%s: holds an unfinished run of another command (there %.*s; here %.*s); finish that "
                           "command or remove the folder",
                           dir, n ? (int)n : 7, n ? there : "nothing", m ? (int)m : 7, m ? here : "nothing");
        there += n + (there[n] == '\n');
        here += m + (here[m] == '\n');
    }
    return 0;
}

static char *read_plan(const char *dir) {
    char *name = xasprintf("%s/plan", dir), *text = file_exists(name) ? file_read(name, NULL) : NULL;
    free(name);
    return text;
}

bool parts_match(const char *dir, const char *plan) {
    char *there = read_plan(dir);
    bool same = there && strncmp(there, plan, strlen(plan)) == 0;
    free(there);
    return same;
}

static int write_plan(const char *dir, const char *plan) {
    file_out o = {0};
    char *name = xasprintf("%s/plan", dir);
    int bad = file_out_open(&o, name);
    if (!bad) {
        fputs(plan, o.f);
        bad = file_out_close(&o);
    }
    free(name);
    return bad;
}

int parts_open(parts *p, const char *dir, const char *plan, long n_rows) {
    *p = (parts){.dir = xstrdup(dir), .n_rows = n_rows, .open_file = -1, .fd = -1};
    p->at = xmalloc((size_t)n_rows * sizeof *p->at);
    for (long i = 0; i < n_rows; i++) p->at[i].file = -1;
    hash_bytes(p->plan_hash, plan, strlen(plan));
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        err_set("%s: cannot make the folder: %s", dir, strerror(errno));
        parts_close(p);
        return -1;
    }
    char *there = read_plan(dir);
    int bad = there ? compare_plans(dir, there, plan) : write_plan(dir, plan);
    free(there);
    if (!bad) bad = parts_scan(p);
    if (bad) parts_close(p);
    return bad;
}

void parts_close(parts *p) {
    if (p->dir && p->fd >= 0) close(p->fd);
    for (int i = 0; i < p->n_files; i++) free(p->file[i]);
    free(p->file);
    free(p->at);
    free(p->dir);
    *p = (parts){.open_file = -1, .fd = -1};
}

// ---------------------------------------------------------------- parts
static int add_file(parts *p, const char *name) {
    VEC_PUSH(p->file, p->n_files, p->cap_files, xstrdup(name));
    return p->n_files - 1;
}

// Takes the index of one part; false: not whole, or of another plan.
static bool take(parts *p, const char *name, const char *bytes, size_t n) {
    char hash[33];
    int64_t count;
    if (n < HEAD + HASH || memcmp(bytes, MAGIC, 8) != 0 || memcmp(bytes + 8, p->plan_hash, HASH) != 0) return false;
    hash_bytes(hash, bytes, n - HASH);
    memcpy(&count, bytes + 8 + HASH, 8);
    if (memcmp(hash, bytes + n - HASH, HASH) != 0 || count < 0 ||
        (uint64_t)count > (n - HEAD - HASH) / sizeof(parts_record))
        return false;
    int64_t start = HEAD + count * (int64_t)sizeof(parts_record), end = (int64_t)n - HASH;
    int file = add_file(p, name);
    for (int64_t i = 0; i < count; i++) {
        parts_record r;
        memcpy(&r, bytes + HEAD + (size_t)i * sizeof r, sizeof r);
        if (r.row < 0 || r.row >= p->n_rows || r.from < 0 || r.bytes < 0 || r.from > end - start - r.bytes)
            return false;
        p->at[r.row] = (struct parts_at){file, start + r.from, r.bytes};
    }
    return true;
}

static bool known(const parts *p, const char *name) {
    for (int i = 0; i < p->n_files; i++)
        if (strcmp(p->file[i], name) == 0) return true;
    return false;
}

int parts_scan(parts *p) {
    DIR *d = opendir(p->dir);
    if (!d) return err_set("%s: cannot open: %s", p->dir, strerror(errno));
    int bad = 0;
    for (struct dirent *e; !bad && (e = readdir(d));) {
        size_t len = strlen(e->d_name), n;
        if (strncmp(e->d_name, "part-", 5) != 0 || (len > 4 && strcmp(e->d_name + len - 4, ".tmp") == 0)) continue;
        char *name = xasprintf("%s/%s", p->dir, e->d_name), *bytes = known(p, name) ? NULL : file_read(name, &n);
        if (bytes && !take(p, name, bytes, n)) {
            log_info("%s: damaged, computed again", name);
            if (unlink(name) != 0) bad = err_set("%s: cannot remove: %s", name, strerror(errno));
        } else if (!bytes && !known(p, name))
            bad = -1;
        free(bytes);
        free(name);
    }
    closedir(d);
    return bad;
}

bool parts_has(const parts *p, long row) { return p->at[row].file >= 0; }

int parts_add(parts *p, const parts_record *record, int n, const void *payload, size_t bytes) {
    size_t index = (size_t)n * sizeof *record, total = HEAD + index + bytes;
    char *all = xmalloc(total), hash[33], *name = xasprintf("%s/part-%08lld-%d", p->dir, (long long)record[0].row, n);
    int64_t count = n;
    memcpy(all, MAGIC, 8);
    memcpy(all + 8, p->plan_hash, HASH);
    memcpy(all + 8 + HASH, &count, 8);
    memcpy(all + HEAD, record, index);
    memcpy(all + HEAD + index, payload, bytes);
    hash_bytes(hash, all, total);
    file_out o = {0};
    int bad = file_out_open(&o, name);
    if (!bad) {
        fwrite(all, 1, total, o.f);
        fwrite(hash, 1, HASH, o.f);
        bad = file_out_close(&o);
    }
    int file = bad ? -1 : add_file(p, name);
    for (int i = 0; !bad && i < n; i++)
        p->at[record[i].row] = (struct parts_at){file, (int64_t)(HEAD + index) + record[i].from, record[i].bytes};
    free(all);
    free(name);
    return bad;
}

int parts_read(parts *p, long row, int64_t from, size_t bytes, void *out) {
    const struct parts_at *a = &p->at[row];
    ASSERT(a->file >= 0);
    if (from < 0 || from + (int64_t)bytes > a->bytes)
        return err_set("%s: row %ld holds %lld bytes, not what this program wants; remove the folder and run again",
                       p->file[a->file], row, (long long)a->bytes);
    if (p->open_file != a->file) {
        if (p->fd >= 0) close(p->fd);
        p->open_file = a->file;
        if ((p->fd = open(p->file[a->file], O_RDONLY | O_CLOEXEC)) < 0)
            return err_set("%s: cannot open: %s", p->file[a->file], strerror(errno));
    }
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(p->fd, (char *)out + done, bytes - done, a->from + from + (int64_t)done);
        if (got <= 0)
            return err_set("%s: cannot read: %s", p->file[a->file], got ? strerror(errno) : "the file ends early");
        done += (size_t)got;
    }
    return 0;
}

// The files of a folder whose names begin like this. False: it cannot be read.
static bool unlink_all(const char *dir, const char *prefix) {
    DIR *d = opendir(dir);
    if (!d) return false;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        char *name = xasprintf("%s/%s", dir, e->d_name);
        unlink(name);
        free(name);
    }
    closedir(d);
    return true;
}

int parts_remove(const char *dir) {
    if (!unlink_all(dir, "part-")) return errno == ENOENT ? 0 : err_set("%s: cannot open: %s", dir, strerror(errno));
    // the plan goes after the parts: without it those of a half-removed folder would be taken for those of the next
    // command; and before the locks of the workers, which process 0 holds by now: a late worker that found a plan and
    // its lock free would begin
    unlink_all(dir, "plan");
    int bad = -1;
    for (int tries = 0; bad && tries < 50; tries++) {  // one that looks has its lock for a moment
        if (tries) usleep(20000);
        unlink_all(dir, "worker-");
        bad = rmdir(dir);
    }
    return bad ? err_set("%s: cannot remove: %s", dir, strerror(errno)) : 0;
}

int parts_remove_rest(const char *dir, const char *plan) {
    char *there = read_plan(dir);
    const bool ours = !there || strncmp(there, plan, strlen(plan)) == 0;
    free(there);
    return ours ? parts_remove(dir) : 0;
}
