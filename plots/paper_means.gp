# paper_means - word perplexity of static masks whose pruned units put out zero, and their mean.
load "plots/common.gp"
figure = "paper_means"; heading = "What a pruned unit puts out: word perplexity under global static masks"; logarithmic = 1
array panel[2] = ["criteria_perplexity", "means_perplexity"]
array title_of[2] = ["zero", "the mean of its values over the scored examples"]
array ytitle[2] = ["word perplexity", "word perplexity"]
load "plots/paper.gp"
