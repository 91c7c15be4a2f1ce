// cuda_transformer_norm - layer norm, its gradient and tangents, as launches (kernels in cuda_transformer_norm.cu).
#include "cuda_host.h"

static const float *bias_of(const weight *b) { return b ? gpu_vector(b) : NULL; }

void cuda_norm(float *y, const float *x, const weight *gain, const weight *b, norm_shape h, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, 1, cuda_norm_rows(h), true);)
        cuda_launch_norm(y, x, gpu_vector(gain), bias_of(b), h, &spans, g->stream);
    LAUNCHED("norm");
}
void cuda_norm_back(float *dx, const float *dy, const float *x, const weight *gain, norm_shape h, bool add,
                    const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_back(dx, dy, x, gpu_vector(gain), h, add, &spans, g->stream);
    LAUNCHED("norm_back");
}
void cuda_norm_jvp(float *ty, const float *x, const float *tx, const weight *gain, norm_shape h, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_jvp(ty, x, tx, gpu_vector(gain), h, &spans, g->stream);
    LAUNCHED("norm_jvp");
}
void cuda_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                        const weight *gain, norm_shape h, bool add, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_norm_back_jvp(tdx, dy, tdy, x, tx, gpu_vector(gain), h, add, &spans, g->stream);
    LAUNCHED("norm_back_jvp");
}
void cuda_norm_grad(float *dg, float *db, const float *dy, const float *x, norm_shape h, const span *s, int n) {
    const int most = g->work_bytes / (2 * (int)sizeof(float));
    const gpu_work_point mark = gpu_work_mark();
    float *stat = gpu_work(g->work_bytes);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n; t += most)
            cuda_launch_norm_grad(dg, db, stat, dy, x, h, s[i].row + t, s[i].n - t < most ? s[i].n - t : most,
                                  g->stream);
    gpu_work_release(mark);
    LAUNCHED("norm_grad");
}
