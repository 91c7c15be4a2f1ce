// cpu_transformer_maps - the maps of a sublayer's input with what is about them: on the CPU one operation after the
// other (maps_plain.h), since none costs a launch.
#include "cpu.h"
#include "maps_plain.h"

void cpu_maps(const sublayer_input *in, const sublayer_map *m, int maps, const weight *table, const int32_t *first,
              const span *s, int n) {
    plain_maps(&cpu_ops, in, m, maps, table, first, s, n);
}

void cpu_hidden(float *r, const sublayer_input *in, const sublayer_map *m, int maps, activation act, const span *s,
                int n) {
    plain_hidden(&cpu_ops, r, in, m, maps, act, s, n);
}
