# paper_predictor_design - mean rank correlation of three designs of predictors over all criteria, with 95 % intervals
# of the mean (Student's, over criteria; published: over tasks and criteria), ours and published.
load "plots/common.gp"
figure = "paper_predictor_design"; heading = "Designs of predictors: mean of the criteria and its interval"
ytitle = "Spearman's rho"; ends = 1
array panel[2] = ["predictor_design", "predictor_design_published"]
array title_of[2] = ["here", "published: OPT-1.3B, 10 tasks"]
load "plots/bars.gp"
