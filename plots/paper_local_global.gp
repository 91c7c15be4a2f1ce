# paper_local_global - word perplexity over sparsity, ours and published.
load "plots/common.gp"
figure = "paper_local_global"; heading = "Local and global masks of the early predictor of plainact"; logarithmic = 1
array panel[2] = ["local_global", "local_global_published"]
array title_of[2] = ["here: heads and neurons", "published: OPT-1.3B, heads alone"]
array ytitle[2] = ["word perplexity", "word perplexity"]
load "plots/paper.gp"
