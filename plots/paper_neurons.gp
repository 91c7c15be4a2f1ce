# paper_neurons - word perplexity and mean accuracy when neurons alone are pruned: threshold masks beside static ones.
load "plots/common.gp"
figure = "paper_neurons"; heading = "Neurons alone: threshold masks and local static masks"; logarithmic = 1; linear = "2"
without = "static really pruned %|threshold:product really pruned %"
array panel[2] = ["neurons_perplexity", "neurons_accuracy"]
array title_of[2] = ["word perplexity", "mean accuracy"]
array ytitle[2] = ["word perplexity", "accuracy %"]
load "plots/paper.gp"
