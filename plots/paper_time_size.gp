# paper_time_size - ms per token over the shape of the model, ours and published.
load "plots/common.gp"
figure = "paper_time_size"; heading = "Time of a token over the size of the model (numbers: per layer over early)"; xtitle = ""; categories = 1; logarithmic = 1; without = "per layer over early %"; labels = without; labels_at = "per layer"
array panel[2] = ["time_size", "time_size_published"]
array title_of[2] = ["here: 50 % pruned", "published: A100, 50 % pruned"]
array ytitle[2] = ["ms per token", "ms per token"]
load "plots/paper.gp"
