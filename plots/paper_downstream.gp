# paper_downstream - difference of accuracy in each task over sparsity, ours and published.
load "plots/common.gp"
figure = "paper_downstream"; heading = "Accuracy of early plainact above that of per-layer l2_norm, global masks"; zero = 1
array panel[2] = ["downstream", "downstream_published"]
array title_of[2] = ["here: heads and neurons", "published: OPT-13B, heads alone"]
array ytitle[2] = ["points", "points"]
load "plots/paper.gp"
