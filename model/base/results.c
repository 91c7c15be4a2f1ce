// results - CSV rows and JSON lines that survive a kill. Contract in results.h.
#include "results.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// ---------------------------------------------------------------- whole writes
// Appends to a file whole or not at all: a short write (disk full) is taken back. Standard output cannot be taken back.
static int append_whole(int fd, const char *path, const char *data, size_t bytes) {
    off_t before = lseek(fd, 0, SEEK_END);
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = write(fd, data + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    int why = errno;
    if (done == bytes && (before < 0 || fsync(fd) == 0 || errno == EINVAL)) return 0;
    if (done == bytes) why = errno;
    if (before >= 0 && ftruncate(fd, before) != 0)
        return err_set("%s: cannot write: %s; its last line is not whole", path, strerror(why));
    return err_set("%s: cannot write: %s; the rows before are kept", path, strerror(why));
}

// Opens for reading and appending, locks, reads all; text and *bytes up to the last line feed, what follows is cut off.
static int open_whole(const char *path, char **text, size_t *bytes) {
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return err_set("%s: cannot open for writing: %s", path, strerror(errno));
    struct stat st;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        err_set("%s: %s", path,
                errno == EWOULDBLOCK ? "another process writes to it; wait for it or name another file"
                                     : strerror(errno));
    } else if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err_set("%s: not a regular file", path);
    } else if ((*text = file_read(path, bytes))) {
        return fd;
    }
    close(fd);
    return -1;
}

static int drop_after(int fd, const char *path, char *text, size_t *bytes, size_t keep, const char *what) {
    if (keep == *bytes) return 0;
    log_info("%s: %s is dropped (%zu bytes)", path, what, *bytes - keep);
    if (ftruncate(fd, (off_t)keep) != 0) return err_set("%s: cannot be shortened: %s", path, strerror(errno));
    text[ *bytes = keep] = 0;
    return 0;
}

static size_t after_last_line(const char *text, size_t bytes) {
    while (bytes > 0 && text[bytes - 1] != '\n') bytes--;
    return bytes;
}

// ---------------------------------------------------------------- provenance
char *results_processor(void) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256], *name = NULL;
    while (f && !name && fgets(line, sizeof line, f)) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strstr(line, ": ") : NULL;
        if (value) name = xstrndup(value + 2, strcspn(value + 2, "\n"));
    }
    if (f) fclose(f);
    return name ? name : xstrdup("unknown processor");
}

char *results_timed(int argc, char **argv, const cli_option *options, const char *device, int threads) {
    char date[UTC_DATE], *command = cli_command(argc, argv), *resolved = cli_resolved(options);
    char *processor = results_processor();
    utc_date(date);
    char *text = xasprintf("command: %s\noptions: %s\ncode: %s\ndate: %s\nmachine: %s, %d threads\ndevice: %s", command,
                           resolved, code_version(), date, processor, threads, device);
    free(command);
    free(resolved);
    free(processor);
    return text;
}

// ---------------------------------------------------------------- fields
static void put_field(FILE *f, const char *s) {
    if (!s[strcspn(s, ",\"\n\r")]) {
        fputs(s, f);
        return;
    }
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

// One line's fields, n of them, as one block; *line moves after the line feed. NULL: not n fields, or a quote without
// end.
static char **parse_row(const char **line, const char *end, int n) {
    const char *p = *line;
    char **field = xmalloc((size_t)n * sizeof *field + (size_t)(end - p) + 1), *out = (char *)(field + n);
    for (int i = 0; i < n; i++) {
        field[i] = out;
        if (p < end && *p == '"') {
            for (p++; p < end && (*p != '"' || (p + 1 < end && p[1] == '"')); p++) {
                if (*p == '"') p++;
                *out++ = *p;
            }
            if (p == end) goto bad;
            p++;
        } else {
            while (p < end && *p != ',' && *p != '\n') *out++ = *p++;
        }
        *out++ = 0;
        if (p == end || *p != (i + 1 < n ? ',' : '\n')) goto bad;
        p++;
    }
    *line = p;
    return field;
bad:
    free(field);
    return NULL;
}

static uint64_t key_of(const results *r, const char *const *field) {
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = 0; i < r->n_columns; i++)
        if (r->column[i].key == RESULTS_KEY)
            fprintf(f, "%s%c", field[i], 0);
        else if (r->column[i].key == RESULTS_LATER && *field[i])
            fprintf(f, "%s=%s%c", r->column[i].name, field[i], 0);
    fclose(f);
    uint64_t h = hash64(text, bytes);
    free(text);
    return h;
}

void results_key(char out[17], const results *r, const char *const *field) {
    snprintf(out, 17, "%016llx", (unsigned long long)key_of(r, field));
}

static void remember(results *r, char **field) {
    long n = r->n;
    VEC_PUSH(r->key, n, r->cap_key, key_of(r, (const char *const *)field));
    VEC_PUSH(r->row, r->n, r->cap, (char *)field);
}

static char *const *row_at(const results *r, long i) { return (char *const *)r->row[i]; }

char *const *results_find(const results *r, const char *const *field) {
    uint64_t key = key_of(r, field);
    for (long i = 0; i < r->n; i++) {
        if (r->key[i] != key) continue;
        bool same = true;
        for (int c = 0; c < r->n_columns && same; c++)
            same = !r->column[c].key || strcmp(row_at(r, i)[c], field[c]) == 0;
        if (same) return row_at(r, i);
    }
    return NULL;
}

// ---------------------------------------------------------------- CSV
static char *header_of(const results *r) {
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = 0; i < r->n_columns; i++) fprintf(f, "%s%s", i ? "," : "", r->column[i].name);
    fputc('\n', f);
    fclose(f);
    return text;
}

// The columns of a file: place[i] of column i among them, -1: it came later and is not there. Returns how many they
// are, or 0: others. *line moves after the line feed.
static int parse_header(const results *r, const char **line, int *place) {
    const char *stop = strchrnul(*line, '\n');
    int n = 0;
    for (int i = 0; i < r->n_columns; i++) {
        const size_t bytes = strcspn(*line, ",\n");
        place[i] = -1;
        if (bytes == strlen(r->column[i].name) && memcmp(*line, r->column[i].name, bytes) == 0) {
            place[i] = n++;
            *line += bytes + ((*line)[bytes] == ',');
        } else if (r->column[i].key != RESULTS_LATER)
            return 0;
    }
    if (*line != stop) return 0;
    *line = stop + (*stop == '\n');
    return n;
}

// One line's fields in the order of the program's columns, those that the file lacks empty.
static char **parse_placed(const results *r, const char **line, const char *end, const int *place, int n) {
    static char nothing[] = "";
    char **field = parse_row(line, end, n);
    if (!field || n == r->n_columns) return field;
    const char *text = field[0];
    const size_t bytes = (size_t)(field[n - 1] + strlen(field[n - 1]) + 1 - text);
    char **all = xmalloc((size_t)r->n_columns * sizeof *all + bytes), *copy = (char *)(all + r->n_columns);
    memcpy(copy, text, bytes);
    for (int i = 0; i < r->n_columns; i++) all[i] = place[i] < 0 ? nothing : copy + (field[place[i]] - text);
    free(field);
    return all;
}

static int parse_file(results *r, const char *text, size_t bytes) {
    int *place = xcalloc((size_t)r->n_columns, sizeof *place), n = 0, bad = 0;
    const char *p = text, *end = text + bytes;
    for (long line = 1; p < end && !bad; line++) {
        if (*p == '#') {
            p = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1;
        } else if (!r->header_written) {
            n = parse_header(r, &p, place);
            r->header_written = n > 0;
            r->lacks_columns = n < r->n_columns;
            if (!n)
                bad = err_set("%s:%ld: not the columns that this program writes; move the file away or name another",
                              r->path, line);
        } else {
            char **field = parse_placed(r, &p, end, place, n);
            if (field)
                remember(r, field);
            else
                bad = err_set("%s:%ld: not a row of %d fields; repair or remove the line", r->path, line, n);
        }
    }
    free(place);
    return bad;
}

static void put_row(FILE *f, const results *r, const char *const *field) {
    for (int i = 0; i < r->n_columns; i++) {
        if (i) fputc(',', f);
        put_field(f, field[i]);
    }
    fputc('\n', f);
}

static int count_columns(const char *text) {
    while (*text == '#') text = strchrnul(text, '\n') + 1;
    int n = 1;
    for (; *text && *text != '\n'; text++) n += *text == ',';
    return n;
}

// Writes the file again with the columns that it lacks; it is the old one or the whole new one.
static int add_columns(results *r) {
    size_t bytes = 0;
    char *text = file_read(r->path, &bytes), *header = header_of(r), *again = NULL;
    file_out o = {0};
    long row = 0;
    bool headed = false;
    if (!text) return -1;
    int bad = file_out_open(&o, r->path);
    for (const char *p = text, *stop; !bad && p < text + bytes; p = stop + 1) {
        stop = strchrnul(p, '\n');
        if (*p == '#') {
            fprintf(o.f, "%.*s\n", (int)(stop - p), p);
        } else if (!headed) {
            fputs(header, o.f);
            headed = true;
        } else {
            const char *line = p;  // a field may hold line feeds
            free(parse_row(&line, text + bytes, count_columns(text)));
            stop = line - 1;
            put_row(o.f, r, (const char *const *)r->row[row++]);
        }
    }
    if (!bad) bad = file_out_close(&o);
    free(text);
    free(header);
    if (bad) return bad;
    close(r->fd);
    r->fd = open_whole(r->path, &again, &bytes);
    free(again);
    r->lacks_columns = false;
    return r->fd < 0 ? -1 : 0;
}

// Comments without columns are what a process that was killed may leave: they begin as its provenance does.
static bool begins_as_ours(const char *text, size_t bytes, const char *provenance) {
    char *ours = xasprintf("# %.*s", (int)strcspn(provenance, ":\n"), provenance);
    const bool same = strncmp(text, ours, bytes < strlen(ours) ? bytes : strlen(ours)) == 0;
    free(ours);
    return same;
}

int results_open(results *r, const char *path, const results_column *column, int n_columns, const char *provenance) {
    *r = (results){.fd = STDOUT_FILENO, .column = column, .n_columns = n_columns, .provenance = xstrdup(provenance)};
    r->path = xstrdup(path ? path : "standard output");
    if (!path) return 0;
    char *text = NULL;
    size_t bytes = 0;
    r->fd = open_whole(path, &text, &bytes);
    int bad = r->fd < 0 ? -1 : 0;
    // Before anything is cut off, the file must be one of ours: it begins with a comment or with the columns.
    if (!bad && bytes && *text != '#' && !(strncmp(text, column[0].name, strlen(column[0].name)) == 0))
        bad = err_set("%s: not a result file; name another", path);
    const size_t whole = after_last_line(text, bytes);
    if (!bad) bad = parse_file(r, text, whole);
    if (!bad && bytes && !r->header_written && !begins_as_ours(text, bytes, provenance))
        bad = err_set("%s: comments alone, and not a result file's; name another", path);
    if (!bad) bad = drop_after(r->fd, path, text, &bytes, whole, "an unfinished last line");
    free(text);
    if (bad) results_close(r);
    return bad;
}

int results_read(results *r, const char *path, const results_column *column, int n_columns) {
    size_t bytes = 0;
    *r =
        (results){.fd = -1, .column = column, .n_columns = n_columns, .provenance = xstrdup(""), .path = xstrdup(path)};
    char *text = file_exists(path) ? file_read(path, &bytes) : NULL;
    if (!text) return 0;
    const int bad = parse_file(r, text, after_last_line(text, bytes));
    free(text);
    if (bad) results_close(r);
    return bad;
}

void results_close(results *r) {
    if (r->fd > STDERR_FILENO) close(r->fd);
    for (long i = 0; i < r->n; i++) free(r->row[i]);
    free(r->row);
    free(r->key);
    free(r->path);
    free(r->provenance);
    *r = (results){.fd = -1};
}

int results_append(results *r, const char *const *field) {
    char *text;
    size_t bytes;
    if (r->lacks_columns && add_columns(r) != 0) return -1;
    FILE *f = open_memstream(&text, &bytes);
    if (!r->provenance_written)
        for (const char *p = r->provenance, *stop; *p; p = *stop ? stop + 1 : stop) {
            stop = strchrnul(p, '\n');
            fprintf(f, "# %.*s\n", (int)(stop - p), p);
        }
    if (!r->header_written) {
        char *header = header_of(r);
        fputs(header, f);
        free(header);
    }
    long start = ftell(f);
    put_row(f, r, field);
    fclose(f);
    int bad = append_whole(r->fd, r->path, text, bytes);
    if (!bad) {
        r->provenance_written = r->header_written = true;
        const char *line = text + start;
        char **copy = parse_row(&line, text + bytes, r->n_columns);
        ASSERT(copy);
        remember(r, copy);
    }
    free(text);
    return bad;
}

// ---------------------------------------------------------------- JSON lines
// A line begins with its key: {"row":"0123456789abcdef",
static const char line_start[] = "{\"row\":\"";
static bool row_present(const results *r, const char *line, size_t bytes) {
    const size_t n = sizeof line_start - 1;
    if (bytes < n + 16 || memcmp(line, line_start, n) != 0) return false;
    char hex[17];
    memcpy(hex, line + n, 16);
    hex[16] = 0;
    uint64_t key = strtoull(hex, NULL, 16);
    for (long i = r->n; i-- > 0;)
        if (r->key[i] == key) return true;
    return false;
}

int details_open(details *d, const char *path, const results *r) {
    char *text = NULL;
    size_t bytes = 0;
    *d = (details){.path = xstrdup(path)};
    d->fd = open_whole(path, &text, &bytes);
    int bad = d->fd < 0 ? -1 : 0;
    const size_t known = bytes < sizeof line_start - 1 ? bytes : sizeof line_start - 1;
    if (!bad && memcmp(text, line_start, known) != 0)
        bad = err_set("%s: not a file of details, whose lines begin with %s; name another", path, line_start);
    if (!bad) bad = drop_after(d->fd, path, text, &bytes, after_last_line(text, bytes), "an unfinished last line");
    size_t keep = bytes;
    while (!bad && keep > 0) {
        size_t start = after_last_line(text, keep - 1);
        if (row_present(r, text + start, keep - start)) break;
        keep = start;
    }
    if (!bad) bad = drop_after(d->fd, path, text, &bytes, keep, "what belongs to no row of the results");
    free(text);
    if (bad) details_close(d);
    return bad;
}

void details_close(details *d) {
    if (d->fd > STDERR_FILENO) close(d->fd);
    free(d->path);
    *d = (details){.fd = -1};
}

int details_append(details *d, const char *lines, size_t bytes) { return append_whole(d->fd, d->path, lines, bytes); }

// Bytes of the UTF-8 sequence at p (Unicode 15, table 3-7), 0 if there is none.
static int utf8_length(const unsigned char *p) {
    if (p[0] < 0x80) return 1;
    int n = 0;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) n = 2;
    if ((p[0] & 0xf0) == 0xe0) n = 3;
    if (p[0] >= 0xf0 && p[0] <= 0xf4) n = 4;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

void json_text(FILE *f, const char *text) {
    putc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        int n = utf8_length(p);
        if (n == 0)
            fputs("\\ufffd", f);
        else if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            fprintf(f, "\\u%04x", *p);
        else
            fwrite(p, 1, (size_t)n, f);
        p += n ? n : 1;
    }
    putc('"', f);
}
