// fuzz_config - any bytes as a config.json: what is accepted has sizes that can be used, and is read back from its own
// writing.
// seeds: tests/golden/ckpt/*/config.json tests/golden/llama/*/config.json tests/golden/gelu/*/config.json
#include "ckpt.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    model_config c, again;
    if (model_config_parse((const char *)data, size, "input", &c)) return 0;
    ASSERT(c.L > 0 && c.H > 0 && c.F > 0 && c.V > 0 && c.P > 0 && c.positions > 0 && c.D > 0);
    const int turned = c.type == MODEL_NEOX ? c.rotary : c.D;
    ASSERT(c.type == MODEL_OPT ? c.D * c.H == c.E : c.llama.K > 0 && c.H % c.llama.K == 0 && turned % 2 == 0);
    ASSERT(c.bos < c.V && c.eos < c.V && c.pad < c.V);
    char *text = model_config_text(&c);
    ASSERT(model_config_parse(text, strlen(text), "written", &again) == 0);
    ASSERT(again.L == c.L && again.E == c.E && again.P == c.P && again.final_ln == c.final_ln && again.bias == c.bias &&
           again.declared == c.declared && again.type == c.type && again.D == c.D && again.llama.K == c.llama.K &&
           again.llama.rope.kind == c.llama.rope.kind && again.positions == c.positions && again.rotary == c.rotary &&
           again.parallel == c.parallel);
    for (int l = 0; l < c.L; l++)
        for (int kind = UNIT_HEADS; kind <= UNIT_NEURONS; kind++)
            ASSERT(model_units(&c, l, kind) >= 0 && model_units(&c, l, kind) == model_units(&again, l, kind));
    model_config_free(&c);
    model_config_free(&again);
    free(text);
    return 0;
}
