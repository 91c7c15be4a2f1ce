# paper_few_shot - word perplexity over sparsity by the number of examples in the scored texts, ours and published.
load "plots/common.gp"
figure = "paper_few_shot"; heading = "Static masks by the scores of 0-, 3- and 5-shot texts"; logarithmic = 1
array panel[2] = ["few_shot", "few_shot_published"]
array title_of[2] = ["here: geometric mean of the criteria", "published: OPT-1.3B, fisher, heads alone"]
array ytitle[2] = ["word perplexity", "word perplexity"]
load "plots/paper.gp"
