# time_length - ms per token over the length of a generation, of one model. Reads SRC/bench.csv.
load "plots/common.gp"
along = "tokens"; figure = "time_length"; xtitle = "tokens generated"; logarithmic = 0; fixed = "model prompt sparsity"
load "plots/times.gp"
