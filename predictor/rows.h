// rows - what nets are trained on, streamed: normalised features and targets go once from the store into a scratch file
// without a name (beside the output, gone when the program ends), as planes of equal rows, and are read back row by
// row. Memory holds a batch, whatever the number of examples.
#pragma once
#include "model.h"
#include "net.h"
#include "store.h"

typedef struct {
    int fd;
    char *path;
    int64_t floats;
} scratch;
// row r: width floats from float at + r * stride on
typedef struct {
    const scratch *file;
    int64_t at;
    long stride;
    int width;
} plane;

int scratch_open(scratch *s, const char *beside);  // -1 and err_set; scratch_close is safe on {.fd = -1}
void scratch_close(scratch *s);
plane scratch_plane(scratch *s, int width, int rows);  // room for rows; what they hold is whatever is written
plane plane_slice(const plane *p, int at, int width);  // width floats from float `at` of each row on
int plane_write(const plane *p, int row, int n, const float *from);  // n whole rows; not of a slice
int plane_read(const plane *p, int row, float *to);

// What becomes of the rows of a dataset [N, L, U]: min-max over all layers together, within every layer, or 1 for the
// largest of every layer and 0 for the others.
typedef enum { ROWS_GLOBAL, ROWS_LAYER, ROWS_TOP } rows_form;
// Layers [first, first + layers) of every row into a new plane of width layers * U. Layer l has its first units[l]
// values (NULL: all); after them stands 0, or as a label 1/2, which is what a net gives for them (net_silence). top:
// the percentage of a layer's units that are labelled 1. constant: how many rows (of ROWS_LAYER: layers of rows) had
// all values equal and became zeros. A value that is NaN or infinite is refused with its place. 0, or -1 and err_set.
int plane_fill(plane *p, scratch *to, const store *s, const char *dataset, const int *units, int first, int layers,
               rows_form form, double top, long *constant);

// Where one net's batches come from: planes of inputs and targets; or, for NET_POOL, token embeddings of the examples.
typedef struct {
    plane x, t;
    const store_examples *ex;  // NET_POOL: the context of an example, or all its tokens where whole (compat)
    const model *model;        // NET_POOL: on the device that computes
    bool whole;
} row_source;
int row_tokens(const row_source *s, int row);  // how many tokens NET_POOL sees

// What batches pass through on their way to a device, so that the next one goes there while it computes: inputs (of
// NET_POOL tokens, and how often each is there) and targets; and the embeddings of NET_POOL before a projection, on the
// device [tokens, P] (NULL: the model has none).
typedef struct {
    struct feed *inputs, *targets;
    float *narrow;
} row_stage;
void row_stage_new(row_stage *g, const row_source *s, const net *n, const net_work *k);  // after net_work_tokens
void row_stage_free(row_stage *g, const net_work *k);                                    // before net_work_free
size_t row_stage_bytes(const row_source *s, const net *n, int batch, int tokens);        // of the device
// Reads a batch and sends it on its way, when all that concerns the batch before has been given to the device. 0, or -1
// and err_set.
int row_send(const row_source *s, const net *n, net_work *k, row_stage *g, const int *row, int count);
// The inputs of the batch that was sent, of `count` rows, into k (by n->kind). Returns its targets [count, out], on the
// device until the next.
const float *row_take(const row_source *s, const net *n, net_work *k, row_stage *g, int count);
