// cpu_cublas.cpp - the part of cuBLAS that a transformer uses, through CBLAS, in order with the handle's stream.
#include "cpu_cudart.h"
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <algorithm>
#include <cblas.h>
#include <cstdlib>
#include <vector>
namespace {
struct Handle {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t mode = CUBLAS_POINTER_MODE_HOST;
};
// A factor: read now from the host, or when the work runs from the device.
struct Factor {
    float now;
    const float *later;
    Factor(cublasHandle_t h, const void *p) : now(0), later(nullptr) {
        if (((Handle *)h)->mode == CUBLAS_POINTER_MODE_DEVICE)
            later = (const float *)p;
        else
            now = *(const float *)p;
    }
    operator float() const { return later ? *later : now; }
};
cublasStatus_t put(cublasHandle_t h, std::function<void()> f) {
    if (cpu_cuda::injected("launch")) return CUBLAS_STATUS_EXECUTION_FAILED;
    return cpu_cuda::enqueue(((Handle *)h)->stream, "cublas", std::move(f)) ? CUBLAS_STATUS_EXECUTION_FAILED
                                                                            : CUBLAS_STATUS_SUCCESS;
}
size_t width(cudaDataType t) { return t == CUDA_R_32F ? 4 : t == CUDA_R_16F || t == CUDA_R_16BF ? 2 : 0; }
float get(const void *p, cudaDataType t, size_t i) {
    return t == CUDA_R_32F   ? ((const float *)p)[i]
           : t == CUDA_R_16F ? __half2float(((const __half *)p)[i])
                             : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
void set(void *p, cudaDataType t, size_t i, float v) {
    if (t == CUDA_R_32F)
        ((float *)p)[i] = v;
    else if (t == CUDA_R_16F)
        ((__half *)p)[i] = __float2half(v);
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16(v);
}
std::vector<float> widen(const void *p, cudaDataType t, int rows, int cols, int ld) {
    std::vector<float> o((size_t)ld * cols);
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < rows; i++) o[(size_t)j * ld + i] = get(p, t, (size_t)j * ld + i);
    return o;
}
void gemm(int ta, int tb, int m, int n, int k, float al, const void *A, cudaDataType At, int lda, const void *B,
          cudaDataType Bt, int ldb, float be, void *C, cudaDataType Ct, int ldc) {
    for (const void *p : {A, B, (const void *)C}) cpu_cuda::check_argument(p);
    if (At == CUDA_R_32F && Bt == CUDA_R_32F && Ct == CUDA_R_32F) {
        cblas_sgemm(CblasColMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, al,
                    (const float *)A, lda, (const float *)B, ldb, be, (float *)C, ldc);
        return;
    }
    auto a = widen(A, At, ta ? k : m, ta ? m : k, lda), b = widen(B, Bt, tb ? n : k, tb ? k : n, ldb);
    auto c = be != 0 ? widen(C, Ct, m, n, ldc) : std::vector<float>((size_t)ldc * n);
    cblas_sgemm(CblasColMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, al, a.data(),
                lda, b.data(), ldb, be, c.data(), ldc);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) set(C, Ct, (size_t)j * ldc + i, c[(size_t)j * ldc + i]);
}
// cuBLAS may choose its kernel by alignment, too, and with the kernel the order of the sums. So does this: operands
// that do not begin at a multiple of 16 bytes are added up in two halves.
void gemm_by_alignment(int ta, int tb, int m, int n, int k, float al, const char *A, cudaDataType At, int lda,
                       const char *B, cudaDataType Bt, int ldb, float be, void *C, cudaDataType Ct, int ldc) {
    const size_t ends = (size_t)A | (size_t)B | (size_t)C;
    const int half = ends % 16 && k > 1 ? k / 2 : k;
    gemm(ta, tb, m, n, half, al, A, At, lda, B, Bt, ldb, be, C, Ct, ldc);
    if (half < k)
        gemm(ta, tb, m, n, k - half, al, A + (size_t)half * (ta ? 1 : lda) * width(At), At, lda,
             B + (size_t)half * (tb ? ldb : 1) * width(Bt), Bt, ldb, 1, C, Ct, ldc);
}
bool bad(int m, int n, int k, int ta, int tb, int lda, int ldb, int ldc) {
    return m < 0 || n < 0 || k < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) ||
           ldc < std::max(1, m);
}
}  // namespace
extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t *h) {
    *h = nullptr;
    if (cpu_cuda::injected("malloc")) return CUBLAS_STATUS_ALLOC_FAILED;
    *h = (cublasHandle_t) new Handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
    delete (Handle *)h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
    ((Handle *)h)->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t h, cudaStream_t *s) {
    *s = ((Handle *)h)->stream;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t m) {
    ((Handle *)h)->math = m;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t *m) {
    *m = ((Handle *)h)->math;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t m) {
    ((Handle *)h)->mode = m;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *v) {
    *v = 130000;
    return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusString(cublasStatus_t s) {
    return s == CUBLAS_STATUS_SUCCESS         ? "success"
           : s == CUBLAS_STATUS_INVALID_VALUE ? "invalid value"
           : s == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
           : s == CUBLAS_STATUS_ALLOC_FAILED  ? "the resource allocation failed"
                                              : "execution failed";
}
const char *cublasGetStatusName(cublasStatus_t s) {
    return s == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : s == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
                                              : "CUBLAS_STATUS_EXECUTION_FAILED";
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                          int k, const void *al, const void *A, cudaDataType At, int lda, long long sa,
                                          const void *B, cudaDataType Bt, int ldb, long long sb, const void *be,
                                          void *C, cudaDataType Ct, int ldc, long long sc, int cnt,
                                          cublasComputeType_t ct, cublasGemmAlgo_t) {
    if (bad(m, n, k, ta, tb, lda, ldb, ldc) || cnt < 0) return CUBLAS_STATUS_INVALID_VALUE;
    bool f32 = ct == CUBLAS_COMPUTE_32F || ct == CUBLAS_COMPUTE_32F_PEDANTIC || ct == CUBLAS_COMPUTE_32F_FAST_TF32 ||
               ct == CUBLAS_COMPUTE_32F_FAST_16F || ct == CUBLAS_COMPUTE_32F_FAST_16BF;
    if (!f32 || !width(At) || At != Bt || !width(Ct) || (At == CUDA_R_32F && Ct != CUDA_R_32F) ||
        (At != Ct && Ct != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const Factor alpha(h, al), beta(h, be);
    return put(h, [=] {
        for (int i = 0; i < cnt; i++)
            gemm_by_alignment(ta, tb, m, n, k, alpha, (const char *)A + i * sa * width(At), At, lda,
                              (const char *)B + i * sb * width(Bt), Bt, ldb, beta, (char *)C + i * sc * width(Ct), Ct,
                              ldc);
    });
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void *al, const void *A, cudaDataType At, int lda, const void *B, cudaDataType Bt,
                            int ldb, const void *be, void *C, cudaDataType Ct, int ldc, cublasComputeType_t ct,
                            cublasGemmAlgo_t g) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, al, A, At, lda, 0, B, Bt, ldb, 0, be, C, Ct, ldc, 0, 1, ct,
                                      g);
}
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                                   const void *al, const void *const A[], cudaDataType At, int lda,
                                   const void *const B[], cudaDataType Bt, int ldb, const void *be, void *const C[],
                                   cudaDataType Ct, int ldc, int cnt, cublasComputeType_t, cublasGemmAlgo_t) {
    if (bad(m, n, k, ta, tb, lda, ldb, ldc)) return CUBLAS_STATUS_INVALID_VALUE;
    const Factor alpha(h, al), beta(h, be);
    return put(h, [=] {
        for (int i = 0; i < cnt; i++) gemm(ta, tb, m, n, k, alpha, A[i], At, lda, B[i], Bt, ldb, beta, C[i], Ct, ldc);
    });
}
cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                              const float *al, const float *A, int lda, const float *B, int ldb, const float *be,
                              float *C, int ldc) {
    return cublasGemmEx(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, B, CUDA_R_32F, ldb, be, C, CUDA_R_32F, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                         int k, const float *al, const float *A, int lda, long long sa, const float *B,
                                         int ldb, long long sb, const float *be, float *C, int ldc, long long sc,
                                         int cnt) {
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, al, A, CUDA_R_32F, lda, sa, B, CUDA_R_32F, ldb, sb, be, C,
                                      CUDA_R_32F, ldc, sc, cnt, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
cublasStatus_t cublasSgemv_v2(cublasHandle_t h, cublasOperation_t ta, int m, int n, const float *al, const float *A,
                              int lda, const float *x, int ix, const float *be, float *y, int iy) {
    const Factor a(h, al), b(h, be);
    return put(h,
               [=] { cblas_sgemv(CblasColMajor, ta ? CblasTrans : CblasNoTrans, m, n, a, A, lda, x, ix, b, y, iy); });
}
cublasStatus_t cublasSaxpy_v2(cublasHandle_t h, int n, const float *al, const float *x, int ix, float *y, int iy) {
    const Factor a(h, al);
    return put(h, [=] { cblas_saxpy(n, a, x, ix, y, iy); });
}
cublasStatus_t cublasSscal_v2(cublasHandle_t h, int n, const float *al, float *x, int ix) {
    const Factor a(h, al);
    return put(h, [=] { cblas_sscal(n, a, x, ix); });
}
}
