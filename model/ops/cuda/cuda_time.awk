# cuda_time.awk - `make cuda-time`: what a token of generation should take on an A100 and an H200, by a model of time. NOTHING HERE WAS MEASURED: no GPU was at
# hand. The bytes and the launches are those of the code (batch 1, OPT, K and V of all heads computed, a past of T tokens); how long they take is assumed:
#   a launch begins `gap` us after the one before it in a graph has ended; `chain` reads that wait for one another come before its first weight, `cached` us each;
#   its warps that are resident at once (by registers) have `flight` bytes each under way, which come back after `latency` us; all bytes pass at no more than `peak`
#   GB/s after the first came back.
# -v T=128. Peaks are 0.9 of the data sheets' 2,039 and 4,800 GB/s, what a copy of several GiB reaches; latencies and gaps are what microbenchmarks of these GPUs report.
BEGIN {
    if (!T) T = 128
    if (!HIDDEN) HIDDEN = 256
    gpu("A100", 108, 1835, 0.60, 0.25, 2.0); gpu("H200", 132, 4320, 0.70, 0.27, 1.7)
    model("opt-1.3b", 24, 32, 2048, 8192); model("opt-13b", 40, 40, 5120, 20480); model("opt-30b", 48, 56, 7168, 28672)
    V = 50272; dense = 0; half = 0.5
    print "Nothing in these tables was measured. fp16 weights, batch 1, a past of " T " tokens; ms a token; bytes: what the peak alone would take.\n"
    print "| model | units that run | MB a token | launches | A100 ms | of bytes | H200 ms | of bytes |"
    print "|---|---|---|---|---|---|---|---|"
    for (k = 1; k <= models; k++) for (s = 0; s < 2; s++) {
        line = sprintf("| %s | %s |", name[k], s ? "50 %" : "all")
        for (g = 1; g <= gpus; g++) {
            token(k, g, s ? 0.5 : 1, s)
            if (g == 1) line = line sprintf(" %.0f | %d |", bytes / 1e6, launches)
            line = line sprintf(" %.2f | %.2f |", us / 1e3, us / (bytes / peak[g] / 1e3))
        }
        print line
    }
    print "\nMasks that look-ahead nets of " HIDDEN " hidden units (fp16) make again at every token, 50 %; bytes with those of the nets:\n"
    print "| model | MB a token | launches | A100 ms | of bytes | H200 ms | of bytes |\n|---|---|---|---|---|---|---|"
    chooses = 1
    for (k = 1; k <= models; k++) {
        line = "| " name[k] " |"
        for (g = 1; g <= gpus; g++) {
            token(k, g, 0.5, 1)
            if (g == 1) line = line sprintf(" %.0f | %d |", bytes / 1e6, launches)
            line = line sprintf(" %.2f | %.2f |", us / 1e3, us / (bytes / peak[g] / 1e3))
        }
        print line
    }
    chooses = 0
    print "\nA layer of opt-13b, half of its units, on an H200:\n\n| launch | does | MB | warps a multiprocessor | KB in flight | GB/s | us |\n|---|---|---|---|---|---|---|"
    shown = 1; layer(2, 2, 0.5, 1)
}
function gpu(n, sm, p, l, c, w) { gpus++; gpu_name[gpus] = n; sms[gpus] = sm; peak[gpus] = p; latency[gpus] = l; cached[gpus] = c; gap[gpus] = w }
function model(n, l, h, e, f) { models++; name[models] = n; L[models] = l; H[models] = h; E[models] = e; F[models] = f }
function min(a, b) { return a < b ? a : b }
function max(a, b) { return a > b ? a : b }
# A launch of `w` warps that read b bytes of memory; `most` of them are resident on a multiprocessor.
function launch(g, what, about, b, w, most, flight, chain,   resident, under, rate, t) {
    resident = min(w / sms[g], most)
    under = resident * flight
    rate = min(peak[g], sms[g] * under / latency[g] / 1e3)
    t = gap[g] + chain * cached[g] + max(latency[g] + b / peak[g] / 1e3, b / rate / 1e3)
    us += t; bytes += b; launches++
    if (shown) printf "| %s | %s | %.2f | %.1f | %.1f | %.0f | %.1f |\n", what, about, b / 1e6, resident, under / 1024, rate, t
}
# y = x W': a warp a row, eight loads of 16 bytes a lane, 2,048 numbers at a time. 74 registers: 24 warps.
function rows(g, about, r, c, chain) { launch(g, "few_rows_k", about, 2 * r * c, r, 24, 2 * c / int((c + 2047) / 2048), chain) }
# The same of x that every block puts through a norm: a warp has two rows, 1,024 numbers of each at a time. 80 registers: 24 warps, whose first reads are under way while a block
# reads x, gain and bias (c numbers each, from the L2) and adds up twice: 6 reads that wait for one another, for every wave of blocks that is not hidden by others.
function held(g, about, r, c, chain) { launch(g, "few_rows_k", about, 2 * r * c + 12 * c, r / 2, 24, 4096, chain + 6) }
# y += x Wt over `live` of the rows: 128 parts of 256 columns, eight rows each at a time; the sums of 16 blocks stay in the L2, where the last one
# counts that all are there, reads them and adds them to y. 63 registers, on an A100 79: 32 and 24 warps.
function columns(g, about, r, c, live) { launch(g, "few_rows_t_k", about, 2 * r * c * live, 128 * int((c + 255) / 256), gpu_name[g] == "A100" ? 24 : 32, 4096, 9) }
function layer(k, g, live, sparse,   e, f) {
    e = E[k]; f = F[k]
    held(g, "norm, q, k, v, into the cache", e * (live + 2), e, sparse ? 3 : 1)
    launch(g, "query_k", "attention", 8 * T * e * live, 4 * H[k] * live * min(16, int((T + 15) / 16)), 16, 4096, 6)
    if (sparse) columns(g, "out_proj, added", e, e, live); else rows(g, "out_proj, added", e, e, 1)
    held(g, "norm, fc1, ReLU", f * live, e, sparse ? 3 : 1)
    if (sparse) columns(g, "fc2, added", f, e, live); else rows(g, "fc2, added", e, f, 1)
}
# A predictor's net of one kind of unit, the choice by its scores and the list: the block of a choice reads the scores once, then adds up counts eight times.
function net(g, e, units) {
    launch(g, "minmax_k", "state", 0, 8, 48, 32 * 80, 6)
    rows(g, "net", HIDDEN, e, 1); rows(g, "net", units, HIDDEN, 1)
    launch(g, "cut_held_k", "choice", 0, 32, 32, 20 * 128, 12); launch(g, "list_live_k", "list", 0, 32, 32, 128, 4)
}
# A layer beside which the nets of the next one run, those of heads and of neurons on a branch of the graph each: the layer's own launches and the time that the nets' bytes
# take from them, or the longer branch, whichever takes longer.
function chosen(k, g, live,   own, head, neuron, b) {
    own = us; layer(k, g, live, 1); own = us - own; us -= own
    b = bytes; head = us; net(g, E[k], H[k]); head = us - head; us -= head
    neuron = us; net(g, E[k], F[k]); neuron = us - neuron; us -= neuron
    us += max(own + (bytes - b) / peak[g] / 1e3, max(head, neuron))
}
function token(k, g, live, sparse,   l) {
    us = bytes = launches = 0
    launch(g, "embed_k", "token", 2 * E[k], E[k] / 64, 64, 64, 2); launch(g, "positions_k", "position", 2 * E[k], E[k] / 64, 64, 64, 2)
    for (l = 0; l < L[k]; l++) {
        if (chooses) chosen(k, g, live); else layer(k, g, live, sparse)
    }
    launch(g, "norm_row_k", "norm", 8 * E[k], 8, 48, 32 * 80, 2)
    rows(g, "logits", V, E[k], 1)
    launch(g, "likeliest_k", "token", 0, V / 256, 64, 1024, 5)
}
