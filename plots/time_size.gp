# time_size - ms per token over the size of the model. Reads SRC/bench.csv.
load "plots/common.gp"
along = "parameters"; figure = "time_size"; xtitle = "parameters"; logarithmic = 1; fixed = "prompt tokens sparsity"
load "plots/times.gp"
