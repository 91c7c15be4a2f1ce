# paper_time_length - ms per token over length, ours and published.
load "plots/common.gp"
figure = "paper_time_length"; heading = "Time of a token over the length of the generation (numbers: per layer over early)"; xtitle = "tokens generated"; logarithmic_x = 1; without = "per layer over early %"; labels = without; labels_at = "per layer"
array panel[2] = ["time_length", "time_length_published"]
array title_of[2] = ["here: 50 % pruned", "published: OPT-30B, 4 A100, 50 % pruned"]
array ytitle[2] = ["ms per token", "ms per token"]
load "plots/paper.gp"
