# paper_criteria_accuracy - mean accuracy over sparsity of static masks by every criterion, ours and published.
load "plots/common.gp"
figure = "paper_criteria_accuracy"; heading = "Criteria: mean accuracy under global static masks"
array panel[3] = ["criteria_accuracy", "criteria_accuracy_all", "criteria_accuracy_published"]
array title_of[3] = ["here: scores of the task", "here: scores of all tasks", "published: OPT-1.3B, heads alone, scores of the task"]
array ytitle[3] = ["accuracy %", "accuracy %", "accuracy %"]
load "plots/paper.gp"
