# paper_global_pruning - word perplexity of both methods under global masks, ours and published.
load "plots/common.gp"
figure = "paper_global_pruning"; heading = "Global masks: word perplexity"; logarithmic = 1
array panel[2] = ["pair_global", "pair_global_13b"]
array title_of[2] = ["here: heads and neurons, global masks", "published: OPT-13B, heads alone, global masks"]
array ytitle[2] = ["word perplexity", "word perplexity"]
load "plots/paper.gp"
