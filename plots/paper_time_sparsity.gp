# paper_time_sparsity - ms per token over sparsity, ours and published.
load "plots/common.gp"
figure = "paper_time_sparsity"; heading = "Time of a token over sparsity (numbers: per layer over early)"; without = "per layer over early %"; labels = without; labels_at = "per layer"
array panel[2] = ["time_sparsity", "time_sparsity_published"]
array title_of[2] = ["here", "published: OPT-30B, 4 A100"]
array ytitle[2] = ["ms per token", "ms per token"]
load "plots/paper.gp"
