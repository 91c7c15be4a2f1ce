# criteria_perplexity - criteria compared: word perplexity of the text over sparsity. Reads SRC/sweep.csv.
load "plots/common.gp"
metric = "word_perplexity"; task = "wikitext"; factor = 1; logarithmic = 1
figure = "criteria_perplexity"; heading = "Perplexity over sparsity"; ytitle = "word perplexity (log scale)"
load "plots/criteria.gp"
