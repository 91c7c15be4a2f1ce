# paper_base_perplexity - word perplexity of plainact and l2_norm, early and per-layer predictors, ours and published.
load "plots/common.gp"
figure = "paper_base_perplexity"; heading = "Two criteria and two designs of predictors: word perplexity"; logarithmic = 1
array panel[4] = ["pair_local", "pair_global", "pair_local_30b", "pair_global_30b"]
array title_of[4] = ["here, local masks", "here, global masks", "published, local: OPT-30B, heads alone", "published, global: OPT-30B, heads alone"]
array ytitle[4] = ["word perplexity", "word perplexity", "word perplexity", "word perplexity"]
load "plots/paper.gp"
