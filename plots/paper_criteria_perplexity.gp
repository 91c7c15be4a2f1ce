# paper_criteria_perplexity - word perplexity over sparsity of static masks by every criterion, ours and published.
load "plots/common.gp"
figure = "paper_criteria_perplexity"; heading = "Criteria: word perplexity under global static masks"; logarithmic = 1
array panel[2] = ["criteria_perplexity", "criteria_perplexity_published"]
array title_of[2] = ["here: heads and neurons", "published: OPT-1.3B, heads alone"]
array ytitle[2] = ["word perplexity", "word perplexity"]
load "plots/paper.gp"
