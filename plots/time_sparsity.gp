# time_sparsity - ms per token over sparsity, of one model. Reads SRC/bench.csv.
load "plots/common.gp"
along = "sparsity"; figure = "time_sparsity"; xtitle = "% of heads and neurons pruned"; logarithmic = 0; fixed = "model prompt tokens"
load "plots/times.gp"
