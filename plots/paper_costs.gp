# paper_costs - multiply-adds of a mask of all layers by the shape of the model: the published formula and the nets of
# bin/train.
load "plots/common.gp"
figure = "paper_costs"; heading = "Multiply-adds of predictors"
ytitle = "multiply-adds"; logarithmic = 1; without = "saved % (published formula)|saved % (as built here)"
array panel[1] = ["costs"]
array title_of[1] = [""]
load "plots/bars.gp"
