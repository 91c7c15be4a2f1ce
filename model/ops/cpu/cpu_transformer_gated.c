// cpu_transformer_gated - the activation of a gated FFN, r = f(g) u, its gradient and tangents.
//   dg = dr u f'(g), du = dr f(g);  tr = f'(g) u tg + f(g) tu
//   tdg = tdr u f' + dr tu f' + dr u f'' tg,  tdu = tdr f + dr f' tg
// or of one that is not gated, where u is 1 and does not move.
// f is ReLU (f' = [g > 0], f'' = 0), SiLU g s(g) with s = 1 / (1 + exp(-g)), GELU g P(g) with P the normal distribution
// function, or GELU by tanh: g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) / 2 (Hendrycks and Gimpel 2016,
// arXiv:1606.08415).
#include "cpu.h"
#include "simd.h"
#include <math.h>

typedef struct {
    float f, d, dd;  // f(g), f'(g), f''(g)
} curve;

FORCE_INLINE curve relu_at(float g) { return (curve){g <= 0 ? 0 : g, g <= 0 ? 0.0f : 1.0f, 0}; }  // a NaN passes

FORCE_INLINE curve silu_at(float g) {
    const float a = g < 0 ? g : -g, e = exp_f(a), large = 1.0f / (1.0f + e), s = g < 0 ? e * large : large;
    const float slope = e * large * large;
    return (curve){g * s, s + g * slope, slope * (2.0f + g * (1.0f - 2.0f * s))};
}

FORCE_INLINE curve gelu_at(float g) {
    const float p = 0.5f * erfcf(-g * 0.70710678f), density = 0.39894228f * expf(-0.5f * g * g);
    return (curve){g * p, p + g * density, density * (2.0f - g * g)};
}

FORCE_INLINE curve gelu_tanh_at(float g) {
    const float k = 0.79788456f, t = tanhf(k * (g + 0.044715f * g * g * g)), in = k * (1.0f + 0.134145f * g * g),
                slope = (1.0f - t * t) * in, bend = (1.0f - t * t) * k * 0.26829f * g - 2.0f * t * slope * in;
    return (curve){0.5f * g * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * g * slope, slope + 0.5f * g * bend};
}

// What the operations read and write of a row; n numbers.
typedef struct {
    float *r, *dg, *du, *tr, *tdg, *tdu;
    const float *g, *u, *dr, *tg, *tu, *tdr;
} gated_arrays;
typedef enum { GATED, GATED_BACK, GATED_JVP, GATED_BACK_JVP, PLAIN, PLAIN_BACK, PLAIN_JVP, PLAIN_BACK_JVP } gated_what;

// The loop of every operation with every activation: `at` and `what` are constants where this is used. EACH says that
// no number depends on another's: GCC gives up on testing so many arrays for overlap, and its loop stays scalar.
#define EACH _Pragma("omp simd") for (size_t i = 0; i < n; i++)
#define GATED_LOOP(at)                                                                                                 \
    switch (what) {                                                                                                    \
    case GATED: EACH x.r[i] = at(x.g[i]).f * x.u[i]; break;                                                            \
    case GATED_BACK:                                                                                                   \
        EACH {                                                                                                         \
            const curve c = at(x.g[i]);                                                                                \
            const float dr = x.dr[i];                                                                                  \
            x.dg[i] = dr * x.u[i] * c.d;                                                                               \
            x.du[i] = dr * c.f;                                                                                        \
        }                                                                                                              \
        break;                                                                                                         \
    case GATED_JVP:                                                                                                    \
        EACH {                                                                                                         \
            const curve c = at(x.g[i]);                                                                                \
            x.tr[i] = c.d * x.u[i] * x.tg[i] + c.f * x.tu[i];                                                          \
        }                                                                                                              \
        break;                                                                                                         \
    case GATED_BACK_JVP:                                                                                               \
        EACH {                                                                                                         \
            const curve c = at(x.g[i]);                                                                                \
            const float dr = x.dr[i], tdr = x.tdr[i], tg = x.tg[i], u = x.u[i];                                        \
            x.tdg[i] = c.d * (tdr * u + dr * x.tu[i]) + dr * u * c.dd * tg;                                            \
            x.tdu[i] = tdr * c.f + dr * c.d * tg;                                                                      \
        }                                                                                                              \
        break;                                                                                                         \
    case PLAIN: EACH x.r[i] = at(x.g[i]).f; break;                                                                     \
    case PLAIN_BACK: EACH x.dg[i] = x.dr[i] * at(x.g[i]).d; break;                                                     \
    case PLAIN_JVP: EACH x.tr[i] = at(x.g[i]).d * x.tg[i]; break;                                                      \
    case PLAIN_BACK_JVP:                                                                                               \
        EACH {                                                                                                         \
            const curve c = at(x.g[i]);                                                                                \
            x.tdg[i] = c.d * x.tdr[i] + x.dr[i] * c.dd * x.tg[i];                                                      \
        }                                                                                                              \
    }

HOT static void relu_rows(gated_arrays x, gated_what what, size_t n){GATED_LOOP(relu_at)} HOT
    static void silu_rows(gated_arrays x, gated_what what, size_t n) {
    GATED_LOOP(silu_at)
}
static void gelu_rows(gated_arrays x, gated_what what, size_t n) { GATED_LOOP(gelu_at) }
static void gelu_tanh_rows(gated_arrays x, gated_what what, size_t n) { GATED_LOOP(gelu_tanh_at) }

static void gated_rows(gated_arrays x, gated_what what, activation act, int F, const span *s, int n) {
    static void (*const rows[])(gated_arrays, gated_what, size_t) = {
        [ACT_RELU] = relu_rows, [ACT_SILU] = silu_rows, [ACT_GELU] = gelu_rows, [ACT_GELU_TANH] = gelu_tanh_rows};
    const gated_what of = x.u ? what : what + (PLAIN - GATED);
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) {
        gated_arrays at = x;
        float **out[] = {&at.r, &at.dg, &at.du, &at.tr, &at.tdg, &at.tdu};
        const float **in[] = {&at.g, &at.u, &at.dr, &at.tg, &at.tu, &at.tdr};
        for (int k = 0; k < 6; k++) {
            if (*out[k]) *out[k] = ROW(*out[k], F);
            if (*in[k]) *in[k] = ROW(*in[k], F);
        }
        rows[act](at, of, (size_t)COUNT * (size_t)F);
    }
    scratch_release(mark);
}

void cpu_gated(float *r, const float *g, const float *u, activation act, int F, const span *s, int n) {
    gated_rows((gated_arrays){.r = r, .g = g, .u = u}, GATED, act, F, s, n);
}
void cpu_gated_back(float *dg, float *du, const float *dr, const float *g, const float *u, activation act, int F,
                    const span *s, int n) {
    gated_rows((gated_arrays){.dg = dg, .du = du, .dr = dr, .g = g, .u = u}, GATED_BACK, act, F, s, n);
}
void cpu_gated_jvp(float *tr, const float *g, const float *u, const float *tg, const float *tu, activation act, int F,
                   const span *s, int n) {
    gated_rows((gated_arrays){.tr = tr, .g = g, .u = u, .tg = tg, .tu = tu}, GATED_JVP, act, F, s, n);
}
void cpu_gated_back_jvp(float *tdg, float *tdu, const float *dr, const float *tdr, const float *g, const float *u,
                        const float *tg, const float *tu, activation act, int F, const span *s, int n) {
    gated_rows((gated_arrays){.tdg = tdg, .tdu = tdu, .dr = dr, .tdr = tdr, .g = g, .u = u, .tg = tg, .tu = tu},
               GATED_BACK_JVP, act, F, s, n);
}
