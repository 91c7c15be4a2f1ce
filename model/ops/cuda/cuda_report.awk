# cuda_report.awk - the table of `make cuda-report`: registers, shared memory and spills of every kernel as ptxas reports them for sm_80 and sm_90,
# and beside them the bytes and FLOPs of one launch on a sequence of T tokens of a model (L, E, H, F, V: all given by -v), with the time that the
# memory or the arithmetic of an A100 or H100 allows at best. Computed, not measured.
#
# Bytes: every array once, what a perfect cache would leave; weights in `wbytes` bytes. FLOPs: a multiply-add is two; of causal attention the T (T + 1) / 2
# pairs of a head that are seen. Criteria are summed in double, at half the rate: there an operation counts twice. few_rows_*: one token of decoding with the share
# `live` of a matrix' units; query_*, append_k, likeliest_k: one token after T others. A kernel that has no line here ends the report, so that none is forgotten.
BEGIN {
    D = E / H; rows = T * E; pairs = H * T * (T + 1) / 2 * D; head = V * T; stat = 5 * H * T
    # NVIDIA A100 80GB SXM and H100 80GB SXM data sheets: bytes/s, fp32 FLOP/s outside of tensor cores
    bw["A100"] = 2.039e12; peak["A100"] = 19.5e12; bw["H100"] = 3.35e12; peak["H100"] = 66.9e12
    # and of tensor cores with tf32 operands, three products of which make one with the accuracy of fp32
    tensor["attention_k"] = tensor["attention_dkv_k"] = tensor["attention_dq_k"] = 1; tf32["A100"] = 156e12 / 3; tf32["H100"] = 494e12 / 3
    # name, floats moved, FLOPs, what
    kernel("embed_k", rows, 0, "token embeddings; weights " wbytes " bytes", rows)
    kernel("embed_grad_k", 3 * rows, rows, "gradient of the embeddings, tokens in order")
    kernel("positions_k", 2 * rows, rows, "position embeddings", rows)
    kernel("append_k", 2 * E, 0, "K or V of a token into the cache")
    kernel("gate_k", 3 * T * F, 0, "ReLU, its gradient")
    kernel("gated_k", 3 * T * F, 8 * T * F, "gated FFN: act(g) u")
    kernel("rotate_k", 2 * rows + T * D, 3 * rows, "rotary positions of q")
    kernel("add_k", 3 * rows, 2 * rows, "y += c x")
    kernel("bias_k", T * F, 0, "a bias, T x F, before the product adds to it")
    kernel("drop_k", 0.5 * rows, 0, "half of the heads set to zero")
    kernel("copy_rows_k", 2 * rows, 0, "T x E numbers to rows that are aligned, of widths that are no multiple of 4")
    kernel("split_k", 2.5 * rows, 8 * rows, "T x E numbers into three of 16 bits each")
    kernel("join_k", 4 * T * F, 6 * T * F, "the sums of three products, T x F each, put together with a bias")
    kernel("random_k", 8388608, 2 * 8388608, "a piece of a random weight, after cuRAND", 8388608)
    kernel("transpose_k", 0, 0, "fc2 transposed, once", 2 * F * E)
    kernel("read_k", 33554432, 0, "128 MiB of the up to 1 GiB that are read and added up to time the memory")
    kernel("max_k", rows, rows, "the largest of T x E numbers, for an fp16 operand")
    kernel("round_k", 1.5 * rows, rows, "T x E numbers to 16 bits, scaled if fp16")
    kernel("weight_sums_k", 2 * 1638 * E, 10 * 1638 * E, "criteria over 1,638 rows of fc1: its gradient (and tangent) with the weight", 1638 * E)
    kernel("unit_columns_k", 3 * T * F, 44 * T * F, "all sums over the neurons: z, dz and a tangent")
    kernel("unit_heads_k", 4 * rows, 48 * rows, "all sums over the heads: a, da, a tangent and the gradient after out_proj")
    kernel("column_moments_k", 2 * T * F, 6 * T * F, "means and variances of the neurons' columns, two passes")
    kernel("column_squares_k", 0, 2 * F * E, "squared norms of the columns of fc2, once", F * E)
    kernel("sign_dets_k", rows, H * ((D + 1) * D / 2 * T / 32 * 3 + 2 * (D + 1) ^ 3 / 3), "nwot of the heads")
    kernel("head_spectra_k", rows, H * 2 * (D * D / 2 * 200 * 6 + 2 * D ^ 3 / 3), "jacov of the heads")
    kernel("neuron_spectra_k", T * F + T * T, F * 2 * 32 ^ 3 / 3, "jacov of the neurons; dz with half of its tokens active")
    kernel("gated_spectra_k", 2 * T * F + T * T, F * 2 * 32 ^ 3 / 3, "jacov of gated neurons, likewise")
    kernel("row_stats_k", rows, 5 * rows, "mean and norm of the rows of the FFN's input")
    kernel("centre_rows_k", 2 * rows, 5 * rows, "fc1's input for the correlations")
    kernel("column_sums_k", T * F, T * F, "gradient of a bias")
    kernel("norm_k", 2 * rows, 8 * rows, "layer norm of rows of less than 512 numbers, or of more than 12,288")
    kernel("norm_row_k", 2 * rows, 8 * rows, "layer norm, a block a row")
    kernel("norm_back_k", 4 * rows, 14 * rows, "its gradient, added")
    kernel("norm_jvp_k", 3 * rows, 16 * rows, "its tangent")
    kernel("norm_back_jvp_k", 6 * rows, 40 * rows, "the tangent of its gradient, added")
    kernel("norm_stat_k", rows, 5 * rows, "mean and deviation of rows")
    kernel("norm_grad_k", 2 * rows, 5 * rows, "gradient of gain and bias")
    kernel("attention_k", 4 * rows, 4 * pairs, "attention, online softmax")
    kernel("query_k", 2 * rows + 34 * E, 4 * rows, "attention of one query, by parts of the past, joined")
    kernel("attention_dkv_k", 6 * rows + stat, 8 * pairs, "dK, dV")
    kernel("attention_dq_k", 5 * rows + stat, 6 * pairs, "dQ")
    kernel("attention_jvp_k", 7 * rows, 12 * pairs, "tangent of attention")
    kernel("attention_tdkv_k", 10 * rows + stat, 20 * pairs, "tangents of dK, dV")
    kernel("attention_tdq_k", 9 * rows + stat, 16 * pairs, "tangent of dQ")
    kernel("few_rows_k", 0, 2 * live * F * E, "fc1 of one token, live rows", live * F * E)
    kernel("few_rows_t_k", 34 * E, 2 * live * F * E, "fc2 of one token, live rows of its transpose", live * F * E)
    kernel("keep_above_k", 2 * T * F, T * F, "neurons under a threshold set to zero and counted")
    kernel("take_rows_k", 0, 0, "half of the rows of fc1 copied together; weights 2 bytes", live * 2 * F * E)
    kernel("take_columns_k", 2 * live * T * F, 0, "columns of live neurons, T rows, before fc2")
    kernel("put_columns_k", 2 * live * T * F, live * T * F, "columns of live neurons to their places, after fc1")
    kernel("list_live_k", F / 4 + live * F, 0, "live neurons of a layer")
    kernel("list_above_k", F + live * F, F, "neurons of one token above a threshold")
    kernel("logprob_k", head, 4 * head, "log-probabilities of T rows")
    kernel("likeliest_k", V, V, "the likeliest token, from the logits of one row, and of its blocks")
    kernel("xent_back_k", 2 * head, 8 * head, "gradient of the loss in place")
    kernel("xent_back_jvp_k", 3 * head, 6 * head, "its tangent in place")
    kernel("adamw_k", 7 * 8388608, 16 * 8388608, "AdamW step of a tile of a predictor's weights")
    kernel("loss_k", 3 * 16 * F, 4 * 16 * F, "loss of 16 examples of F outputs and its gradient")
    kernel("loss_mean_k", 2 * 16 * F / 2048, 16 * F / 2048, "sum of its parts")
    kernel("pool_softmax_k", 2 * 256 * T, 6 * 256 * T, "pooling attention: softmax of 256 queries' scores")
    kernel("pool_softmax_back_k", 2 * 256 * T, 8 * 256 * T, "its gradient")
    kernel("minmax_k", 2 * rows, 4 * rows, "min-max normalisation of T x E numbers together")
    kernel("cut_held_k", 1.25 * F, 0, "the k lowest of F scores, of a block, which holds their keys")
    kernel("cut_count_k", F, 0, "of more scores: four bits of the k-th lowest")
    kernel("cut_put_k", 1.25 * F, 0, "of these: what goes")
    more["sign_dets_k"] = 4 * (D + 1) * (D + 2) + D * T / 8; more["head_spectra_k"] = 4 * D * (D + 1) + T / 8; more["neuron_spectra_k"] = more["gated_spectra_k"] = 8 * 4 * 32 * 35 + 4 * T
    tile = 4 * 32 * 36  # bytes of a tile of scores; rows of a tile are D + 4 floats
    shared["attention_k"] = 4; shared["attention_dkv_k"] = 6; shared["attention_dq_k"] = 6
    shared["attention_jvp_k"] = 4; shared["attention_tdkv_k"] = 8; shared["attention_tdq_k"] = 8
    # of variants that are no head sizes: the one that this shape takes; of few_rows_* only the fp16 ones are listed
    picked["few_rows_k"] = picked["few_rows_t_k"] = 1; picked["split_k"] = picked["join_k"] = 4; picked["norm_row_k"] = E <= 2048 ? 2 : E <= 5120 ? 5 : 12
    picked["cut_held_k"] = F <= 1024 ? 8 : F <= 8192 ? 16 : F <= 20480 ? 40 : 56; picked["list_live_k"] = F <= 512 ? 128 : 1024
    more["attention_tdkv_k<128, lean>"] = 4 * 5 * 32 * 132 + tile; more["attention_tdq_k<128, lean>"] = 4 * 5 * 32 * 132 + 2 * tile
    scores["attention_jvp_k"] = 2; scores["attention_tdkv_k"] = 4; scores["attention_tdq_k"] = 2
}
function kernel(name, floats, flops, about, weights) {
    bytes[name] = 4 * floats + wbytes * weights; work[name] = flops; what[name] = about; order[++n] = name
}
/Compiling entry function/ { split($0, q, "'"); mangled = q[2]; arch = q[4] }
/bytes spill stores/ { spill[mangled, arch] = $5 + $9 }
/Used [0-9]+ registers/ {
    name = mangled; sub(/^_Z/, "", name); sub(/^L/, "", name)
    match(name, /^[0-9]+/); len = substr(name, 1, RLENGTH); rest = substr(name, RLENGTH + 1); name = substr(rest, 1, len)
    width = match(rest, /ILi[0-9]+E/) ? substr(rest, RSTART + 3, RLENGTH - 4) : 0
    if (name ~ /^few_rows_t?_?k$/ && rest !~ /6__halfLb1/ && !spill[mangled, arch]) next
    variant = name ~ /^attention/ && rest ~ /^ILi[0-9]+ELb1E/ ? ", lean" : rest ~ /Lb1ELb1E/ ? ", held" : ""
    id = width ? name "<" width variant ">" : name
    if (!(name in work)) { print "model/ops/cuda/cuda_report.awk: no bytes and FLOPs for kernel " name >"/dev/stderr"; bad = 1; exit 1 }
    for (i = 1; i <= NF; i++) {
        if ($i == "registers,") registers[id, arch] = $(i - 1)
        if ($i ~ /^smem/) static[id] = $(i - 2) ~ /^[0-9]+$/ ? $(i - 2) : $(i - 1)
    }
    spills[id, arch] = spill[mangled, arch]
    if (!(id in seen)) { seen[id] = 1; variants[name] = variants[name] (variants[name] == "" ? "" : ";") id }
}
function time(name, gpu,   m, f) {
    m = bytes[name] / bw[gpu]; f = work[name] / (name in tensor ? tf32[gpu] : peak[gpu])
    return sprintf("%.1f %s", 1e6 * (m > f ? m : f), m > f ? "memory" : name in tensor ? "tensor cores" : "arithmetic")
}
END {
    if (bad) exit 1
    printf "A sequence of T = %d tokens; E = %d, %d heads, F = %d, V = %d; weights of %d bytes; of few_rows_*, one token and %g of the units.\n\n", T, E, H, F, V, wbytes, live
    print "| kernel | registers sm_80 / sm_90 | shared bytes | spilled | MB | MFLOP | A100 us | H100 us | does |"
    print "|---|---|---|---|---|---|---|---|---|"
    for (k = 1; k <= n; k++) {
        name = order[k]; count = split(variants[name], v, ";")
        if (!count) { print "model/ops/cuda/cuda_report.awk: kernel " name " is in no log" >"/dev/stderr"; exit 1 }
        for (i = 1; i <= count; i++) {
            id = v[i]; width = 0
            if (match(id, /<[0-9]+>/)) width = substr(id, RSTART + 1, RLENGTH - 2) + 0
            dynamic = width ? 4 * 32 * (width + 4) * shared[name] + tile * scores[name] : more[id in more ? id : name]
            mine = name in picked ? width == picked[name] : !width || (D <= 32 ? 32 : D <= 64 ? 64 : 128) == width
            if (id ~ /held/) dynamic = 4 * E * substr(id, index(id, "<") + 1)
            others = id ~ /held/ ? "x through a norm in shared memory first" : name in picked ? "other numbers of rows or widths" : "other head sizes"
            printf "| %s | %d / %d | %d | %d |", id, registers[id, "sm_80"], registers[id, "sm_90"], static[id] + dynamic, spills[id, "sm_80"] + spills[id, "sm_90"]
            if (mine) printf " %.2f | %.1f | %s | %s | %s |\n", bytes[name] / 1e6, work[name] / 1e6, time(name, "A100"), time(name, "H100"), what[name]
            else print " | | | | " others " |"
        }
    }
}
