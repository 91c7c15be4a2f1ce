# criteria_accuracy - criteria compared: mean accuracy of the tasks over sparsity. Reads SRC/sweep.csv.
load "plots/common.gp"
metric = "acc"; task = "mean"; factor = 100; logarithmic = 0
figure = "criteria_accuracy"; heading = "Mean accuracy of the tasks over sparsity"; ytitle = "accuracy, %"
load "plots/criteria.gp"
