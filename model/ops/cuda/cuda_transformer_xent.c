// cuda_transformer_xent - log-probabilities, the likeliest token, and the cross-entropy's gradient and its tangent, as
// launches (kernels in cuda_transformer_xent.cu).
#include "cuda_host.h"

void cuda_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab,
                  int rows) {
    const gpu_work_point mark = gpu_work_mark();
    double *on_device = gpu_work((size_t)rows * sizeof *on_device);
    int32_t *tops = gpu_work((size_t)rows * sizeof *tops);
    cuda_launch_logprob(on_device, top ? tops : NULL, logits, gpu_stage(target, (size_t)rows * sizeof *target), V,
                        vocab, rows, g->stream);
    LAUNCHED("logprob");
    if (top) cuda_get(top, tops, (size_t)rows * sizeof *top);
    cuda_get(logprob, on_device, (size_t)rows * sizeof *logprob);
    gpu_work_release(mark);
}

void cuda_likeliest(int32_t *token, int32_t *at, const float *logits, int V, int rows) {
    const size_t each = cuda_likeliest_blocks(V) * sizeof(unsigned long long);
    const int room = (int)(g->work_bytes / each), most = room < COUNTERS ? room : COUNTERS;
    const gpu_work_point mark = gpu_work_mark();
    unsigned long long *part = gpu_work((size_t)(rows < most ? rows : most) * each);
    for (int row = 0; row < rows; row += most)
        cuda_launch_likeliest(token + row, at ? at + row : NULL, part, g->counters, logits + (size_t)row * (size_t)V, V,
                              rows - row < most ? rows - row : most, g->stream);
    gpu_work_release(mark);
    LAUNCHED("likeliest");
}

void cuda_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows) {
    const int32_t *targets = gpu_stage(target, (size_t)rows * sizeof *target);
    cuda_launch_xent_back(logits, targets, gpu_stage(scale, (size_t)rows * sizeof *scale), V, rows, g->stream);
    LAUNCHED("xent_back");
}

void cuda_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V,
                        int rows) {
    const int32_t *targets = gpu_stage(target, (size_t)rows * sizeof *target);
    cuda_launch_xent_back_jvp(tlogits, dlogits, targets, gpu_stage(scale, (size_t)rows * sizeof *scale), V, rows,
                              g->stream);
    LAUNCHED("xent_back_jvp");
}
