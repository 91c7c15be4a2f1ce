// mask - which units run: from scores by scope and sparsity, from a file, at random; and the one interface of mask
// sources. mask.c makes and reads masks, mask_select.c holds the rules.
//
// A kind of unit (heads or neurons) has scores [L, U]; larger = more important. From n units, k = floor(p n / 100) are
// pruned at p percent, the lowest first, among equal scores the lower (layer, unit) first.
//   local   each layer loses its own share;  global  k over all layers;  hybrid  global, but every layer keeps at least
//           its top m.
// sound counts over the prunable layers only (all but the first `dense_layers`), and the shares of a local scope add up
// to the k of a global one (mask_local_count), so that masks of all scopes lose equally many units. compat counts over
// all layers, each layer losing floor(p n_l / 100), then sets the dense layers running again, and leaves the neurons
// alone, because the published FFN mask never acted (METHOD 6, 10.1).
// In a compacted model only the units that are left are ranked, counted and pruned; the others are 0 in every mask.
#pragma once
#include "mode.h"
#include "model.h"

typedef enum { SCOPE_LOCAL, SCOPE_GLOBAL, SCOPE_HYBRID } mask_scope;
enum { UNITS_HEADS = 1u << UNIT_HEADS, UNITS_NEURONS = 1u << UNIT_NEURONS, UNITS_BOTH = UNITS_HEADS | UNITS_NEURONS };

// How many units each layer of a local scope loses: spread, so that the total is that of a global scope, or the floor
// of its own share, which makes all layers equally wide and the total smaller.
typedef enum { COUNTS_SPREAD, COUNTS_FLOOR } mask_counts;

typedef struct {
    mask_scope scope;
    unsigned units;    // kinds that are pruned; the others all run
    long sparsity;     // in thousandths of a percent, 0..100000, so that counts are exact
    int dense_layers;  // the first layers that are never pruned
    mode_kind mode;
    mask_counts counts;  // of a local scope; compat: floor, whatever stands here
    // scores of a scope that compares layers are first standardised within each, (s - mean) / sd, divisor n - 1; those
    // of a layer where all are equal become 0
    bool standardise;
    bool group_heads;  // query heads that read one KV head run or go together (mask_groups.h)
} mask_rule;

// Names as options and tables have them, NULL at the end.
extern const char *const mask_scope_names[];   // "local", "global", "hybrid"
extern const char *const mask_counts_names[];  // "spread", "floor"
extern const char *const mask_units_names[];   // "heads", "neurons", "both"
extern const int mask_units_values[];          // of these
const char *mask_units_name(unsigned units);
// The choice that a result names: "" for the scopes other than local.
const char *mask_counts_name(const mask_rule *rule);

// "10" or "12.5" percent in thousandths; -1 and err_set outside 0..100 or with more than three decimals.
long mask_parse_sparsity(const char *text);
// A list "0,10,50"; NULL and err_set on a bad or empty one. Caller frees.
long *mask_parse_sparsities(const char *list, int *n);
// floor(p n / 100).
long mask_count(long sparsity, long n);
// Units that a layer loses in a local scope; units [L]: how many each has, NULL: U. With P units in the
// prunable layers, floor(p P / 100) go in all: layer l loses floor(p n_l / 100), and one more goes from the layers with
// the largest p n_l mod 100, among equal ones by the bit-reversed index of the layer, which spreads them over the
// depth. 30 % of 5 layers of 8: 3, 2, 2, 2, 3.
long mask_local_count(const int *units, int L, int U, const mask_rule *rule, int layer);

// One block for both kinds, every unit running; mask_free is safe on {0}.
void mask_alloc(mask *m, const model_config *c);
void mask_free(mask *m);
void mask_fill(mask *m, const model_config *c);  // every unit runs

// keep [L, U] from score [L, U]. units [L]: how many of the U each layer has, NULL: all. m: what hybrid reserves in
// every layer before it is lowered to what the sparsity leaves.
void mask_select(uint8_t *keep, const double *score, const int *units, int L, int U, int m, const mask_rule *rule);
// The same from scores in memory of a device's first part: only bytes of the mask leave it. Returns the place of a
// score that is NaN or infinite, or -1.
long mask_select_on(uint8_t *keep, const struct ops *o, const float *score, const int *units, int L, int U, int m,
                    const mask_rule *rule);
// The same in one layer, score [U]: the k lowest go. Returns as mask_select_on.
long mask_select_layer(uint8_t *keep, const struct ops *o, const float *score, int units, long k);
// mask_select_on where keep is in memory of the device, too, and there (units NULL: NULL): the units that there are; of
// scopes local and global.
void mask_select_there(uint8_t *keep, const uint8_t *there, int32_t *bad, const struct ops *o, const float *score,
                       const int *units, int L, int U, const mask_rule *rule);
// Both kinds; a kind that the rule does not prune may have NULL scores. -1 and err_set on a score that is NaN or
// infinite.
int mask_make(mask *m, const model_config *c, const double *heads, const double *neurons, const mask_rule *rule);
// The same from scores in memory of device o (its first part), heads [L, H] and after them neurons [L, F].
int mask_make_on(mask *m, const model_config *c, const struct ops *o, const float *score, const mask_rule *rule);
// The part of these masks that is one kind of all layers, and of one layer (score [U], local scope): what else is in
// the mask stays. Nothing happens where the rule does not prune the kind, or the layer.
int mask_make_kind(mask *m, const model_config *c, unit_kind kind, const struct ops *o, const float *score,
                   const mask_rule *rule);
int mask_make_layer(mask *m, const model_config *c, unit_kind kind, int layer, const struct ops *o, const float *score,
                    const mask_rule *rule);
// The same into a mask in the device's memory, of a rule that mask_fits_device: nothing comes to the host, and all of
// it can be recorded (ops.h). whole: the mask of all units that there are, in the device's memory, which m is at first.
// *bad (device memory) becomes 1 on a score that is NaN or infinite.
bool mask_fits_device(const mask_rule *rule);
void mask_put_kind(const mask *m, const mask *whole, int32_t *bad, const model_config *c, unit_kind kind,
                   const struct ops *o, const float *score, const mask_rule *rule);
void mask_put_layer(const mask *m, int32_t *bad, const model_config *c, unit_kind kind, int layer, const struct ops *o,
                    const float *score, const mask_rule *rule);
bool mask_rule_prunes(const mask_rule *rule, unit_kind kind);  // compat never prunes neurons
static inline bool mask_rule_groups(const mask_rule *rule) {
    return rule->group_heads && mask_rule_prunes(rule, UNIT_HEADS);
}
// The scores of a random mask: uniform, from (seed, kind, layer, unit) alone, so a sparser mask of one seed prunes a
// superset.
void mask_random_scores(double *heads, double *neurons, const model_config *c, uint64_t seed);
// /mask/heads [L, H] and /mask/neurons [L, F], uint8, 0 or 1, of an HDF5 file. m from mask_alloc.
int mask_read(mask *m, const model_config *c, const char *path);
// the same, whole or not at all, with the hash of the model; 0, or -1 and err_set (a full disk)
int mask_write(const mask *m, const model_config *c, const char *model_hash, const char *path);
// Heads and neurons that do not run (of a compacted model of those that are left), and how many there are, dense layers
// included.
void mask_pruned(const mask *m, const model_config *c, long pruned[UNIT_KINDS]);
void mask_units(const model_config *c, long units[UNIT_KINDS]);
// The ratio of both.
void mask_effective(const mask *m, const model_config *c, double *heads, double *neurons);
void mask_hash(char out[33], const mask *m, const model_config *c);

// ---------------------------------------------------------------- sources
// Where the masks of an evaluation come from. Either one fixed mask for every input, or scores for each input (a
// document's context and gold continuation, a window of text), which the evaluation turns into one mask per rule, or a
// predictor that sees the input's states.
typedef struct {
    const mask *fixed;  // when scores and context are NULL; NULL: dense
    // Fills heads [L, H] and neurons [L, F] (those of the kinds in `units`); 0, or -1 and err_set.
    int (*scores)(void *self, const model_seq *input, unsigned units, double *heads, double *neurons);
    void *self;
    bool uses_label;           // the scores depend on the gold answer
    const model_means *means;  // what dropped units put out; NULL: 0
    // 0: the mask acts at every position; else from the end of the context on, in a window of running text from
    // position `after` on, as contextual masks do (whose source says so itself)
    int after;
    // of scores: running text is cut into segments of so many positions, each with a mask of its own loss, the first
    // dense; 0: a window has one mask
    int refresh;
    const struct contextual_source *context;  // contextual.h
    const model_above *above;                 // threshold masks (threshold.h), without any other; NULL: none
} mask_source;

// The oracle: the exact rise of the input's loss when one unit is removed (removal.h), for every unit of the kinds
// asked for. The input has a target at least. first_layer: layers before it are never pruned and get score 0. One
// forward pass of the layers from the unit's on for every unit.
typedef struct oracle oracle;
oracle *oracle_new(const model *m, int first_layer);
void oracle_free(oracle *o);
mask_source oracle_source(oracle *o);
// Its cost in tokens through the whole model, for an input of n tokens.
double oracle_cost(const model_config *c, int first_layer, unsigned units, int n);
