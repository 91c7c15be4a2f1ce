// cuda_transformer_gated - the activation of a gated FFN, its gradient and tangents, as launches (kernel in
// cuda_transformer_gated.cu).
#include "cuda_host.h"

static void launch(cuda_gated_arrays x, cuda_gated_what what, activation act, int F, const span *s, int n) {
    cuda_spans spans;
    EACH_CHUNK(F) cuda_launch_gated(&x, what, act, F, &spans, g->stream);
    LAUNCHED("gated");
}

void cuda_gated(float *r, const float *gate, const float *u, activation act, int F, const span *s, int n) {
    launch((cuda_gated_arrays){.r = r, .g = gate, .u = u}, CUDA_GATED, act, F, s, n);
}
void cuda_gated_back(float *dg, float *du, const float *dr, const float *gate, const float *u, activation act, int F,
                     const span *s, int n) {
    launch((cuda_gated_arrays){.dg = dg, .du = du, .dr = dr, .g = gate, .u = u}, CUDA_GATED_BACK, act, F, s, n);
}
void cuda_gated_jvp(float *tr, const float *gate, const float *u, const float *tg, const float *tu, activation act,
                    int F, const span *s, int n) {
    launch((cuda_gated_arrays){.tr = tr, .g = gate, .u = u, .tg = tg, .tu = tu}, CUDA_GATED_JVP, act, F, s, n);
}
void cuda_gated_back_jvp(float *tdg, float *tdu, const float *dr, const float *tdr, const float *gate, const float *u,
                         const float *tg, const float *tu, activation act, int F, const span *s, int n) {
    launch((cuda_gated_arrays){.tdg = tdg, .tdu = tdu, .dr = dr, .tdr = tdr, .g = gate, .u = u, .tg = tg, .tu = tu},
           CUDA_GATED_BACK_JVP, act, F, s, n);
}
