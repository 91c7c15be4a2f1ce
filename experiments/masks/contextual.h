// contextual - masks that a predictor makes for each input (METHOD 5, 6): what watches one row of a pass, predicts
// scores of units from the states it sees, and makes the mask.
//
// A sequence's mask and its watch are the whole seam: model_seq.mask = the mask, model_seq.watch = &contextual.watch,
// and contextual_begin before the pass. Which states a predictor reads decides when a mask can act:
//   early   from states before anything that is pruned (shadow after dense layers; sequence: the token embeddings).
//           They do not depend on the mask, so scores of any pass serve every rule, and a mask made during the pass
//           acts on the watched row itself.
//   stream  nets per layer that read a state before the layer's own units run (look-ahead, or the layer's input), local
//           scope: every layer is cut as its scores come, from the stream as earlier cuts left it. What an online
//           system does.
//   dense   everything else: nets per layer with a scope that compares layers, or that read what the layer's own heads
//           put out. Scores come from a pass without mask, and the mask acts in what runs after it. In a prompt that
//           runs dense anyway this costs nothing; at every token it would need a dense pass first, which is an oracle's
//           privilege (METHOD 10.2).
#pragma once
#include "mask.h"
#include "predictor.h"

typedef enum { FEATURES_EARLY, FEATURES_STREAM, FEATURES_DENSE } contextual_features;
extern const char *const contextual_feature_names[];  // "early", "stream", "dense"
contextual_features contextual_kind(const predictor_info *p, const mask_rule *rule);

// Whether a predictor of nets per layer reads its inputs as they are, not normalised: in compat, where masks compare
// layers (METHOD 10.2).
bool contextual_raw(const predictor_info *p, const mask_rule *rule);

// Whether masks of this rule can be made by this predictor; -1 and err_set: no nets of the units, prunable layers
// without nets, or sound and compat mixed.
int contextual_check(const predictor_info *p, const mask_rule *rule);

// What an evaluation wants of its masks (METHOD 6.6).
typedef enum {
    // predicted at the end of the context, acts from that position on; running text: segment by segment
    SPAN_DECODE,
    SPAN_ALL,  // acts at every position, in a second pass
    // SPAN_ALL, predicted at the last input position of the scored text, as published (it looks ahead)
    SPAN_COMPAT
} mask_span;

typedef struct contextual_source {
    predictor *p;
    mask_span span;
    int refresh;  // SPAN_DECODE: input positions of a segment of running text
} contextual_source;

typedef struct {
    model_watch watch;  // for model_seq.watch of the next pass
    // heads [L, H] and after them neurons [L, F], after that pass, in memory of the model's device; 0 in layers
    // without nets
    float *score;
    // seconds spent so far: in the predictor, in the choice of units (which on a GPU waits for all that was computed
    // before)
    double predict_s, select_s;
    predictor *p;
    const model *m;
    unsigned units;  // kinds that are predicted
    bool raw;        // contextual_raw
    mask *out;       // written during the pass; NULL: scores only
    const mask_rule *rule;
    bool bad;
    // contextual_place: the mask in memory of the device's first part, and that of all units; whether a score was NaN
    // or infinite, there and, after the last pass, where `late` leaves it
    mask there, whole;
    int32_t *wrong;
    struct fetch *late;
    const int32_t *was_wrong;
    bool puts;  // the pass writes there
} contextual;

// p, which is on m's device (predictor_place), and m must outlive c. units: the kinds to predict, which p must have.
// raw: contextual_raw of every rule that the scores are for.
void contextual_open(contextual *c, predictor *p, const model *m, unsigned units, bool raw);
void contextual_close(contextual *c);  // safe on {0}
// The next pass shows row `row` of its sequence. tokens [n]: the whole context, from the first token to the watched one
// (only the sequence design reads them). out: every unit runs until its scores are there, then the rule's mask (early
// and stream features); it must be the mask of that pass. NULL: scores only.
void contextual_begin(contextual *c, const int32_t *tokens, int n, int row, mask *out, const mask_rule *rule);
// After the pass: -1 and err_set when a predicted score was NaN or infinite.
int contextual_end(contextual *c);
// The mask of a rule from the scores that are there. -1 and err_set as mask_make.
int contextual_mask(contextual *c, mask *out, const mask_rule *rule);

// Passes of one token whose masks stay on the device, from the scores to the lists of live units: nothing of them is
// the host's, so that they can be replayed (model_step).
// place: whether masks of this rule can be; makes room for one. set: the mask there, until the next pass makes another.
// begin: the next pass shows its only row, and makes the mask there (for model_seq.there) before the units of each
// layer run; contextual_end as above. get: the mask as the last pass has left it.
bool contextual_place(contextual *c, const mask_rule *rule);
void contextual_set_there(contextual *c, const mask *m);
void contextual_begin_there(contextual *c, const mask_rule *rule);
void contextual_get_there(const contextual *c, mask *m);
