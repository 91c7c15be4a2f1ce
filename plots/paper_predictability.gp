# paper_predictability - rank correlation of the early predictor with the scores of each criterion, ours and published.
load "plots/common.gp"
figure = "paper_predictability"; heading = "Predictability of each criterion, early predictor"
ytitle = "Spearman's rho"
array panel[2] = ["predictability", "predictability_published"]
array title_of[2] = ["here", "published: OPT-1.3B"]
load "plots/bars.gp"
