// unit_sums - what criteria sum over the tokens of one sequence for each unit, for the tables of operations and the
// kernels. A unit is D columns; with its output a, the gradient g there, a tangent h and another array o, over tokens t
// and values i:
#pragma once

enum {
    USUM_ACT,      // sum a a
    USUM_OUTPUT,   // sum r r of the neuron's output: relu(a), or a itself where `gate` is there
    USUM_GRAD,     // sum g g
    USUM_ABS,      // sum |g|
    USUM_SIGNED,   // sum a g
    USUM_SIZE,     // sum_t |sum_i a g|
    USUM_SQUARE,   // sum_t (sum_i a g)^2
    USUM_VALUES,   // sum (a g)^2
    USUM_ON,       // number of a > 0, or of gates > 0
    USUM_TANGENT,  // sum a h
    USUM_OUT,      // sum |o|
    USUM_SIGNS,    // ln det(I + K/D), K the number of signs [a > 0] that two tokens share (sign_dets)
    // of the gradient's rows: their number n <= 200 (one head), 32 (neurons); of M = 0.9 C + 0.1 I, C their
    // correlations: ln det M and the trace of its inverse (head_spectra, neuron_spectra, gated_spectra)
    USUM_ROWS,
    USUM_LOG_DET,
    USUM_TRACE,
    USUMS
};
enum { HEAD_ROWS = 200, NEURON_ROWS = 32 };

// What unit_sums reads: unit u is columns u D .. u D + D - 1 of rows of distance ld (out: out_ld). NULL where no wanted
// sum needs it.
typedef struct {
    const float *act, *grad, *tangent, *out;
    int ld, out_ld, D;
    const float *gate;  // of neurons whose output is act: what decides whether they are on (z); NULL: act does
} unit_taps;

// For a row x of an FFN's input (row_stats): what correlations of rows (dg x, du x) are made of beside those of x.
enum { ROW_MEAN, ROW_SPREAD, ROW_LEAST, ROW_MOST, ROW_STATS };  // mean, |x - mean|, least and largest number
