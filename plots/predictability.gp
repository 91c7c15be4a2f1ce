# predictability - how well the scores of each criterion are predicted on held-out documents: rank correlation within
# layers of the predictor, beside those of two mean scores (no context): of the training documents of the same task, and
# of all. Reads SRC/metrics.csv (`bin/train --metrics`).
load "plots/common.gp"
metrics = src . "/metrics.csv"
if (!present(metrics)) { print missing(metrics); exit }
if (!exists("design")) design = "shadow"
if (!exists("target")) target = "layer"
ours = sprintf("f[\"design\"] == \"%s\" && f[\"target\"] == \"%s\" && f[\"seed\"] == 0", design, target)
criteria = distinct(metrics, "criterion", ours)
if (words(criteria) == 0) { print sprintf("%s: no predictors of design %s, target %s; this figure is left out", metrics, design, target); exit }
at(c) = (_a = 0, sum [_i = 1:words(criteria)] (word(criteria, _i) eq c ? (_a = _i) : 0), _a)
rho(kind, by) = is("units", kind) && is("by", by) && is("design", design) && is("target", target) && column("seed") == 0 ? column("within_rho") : NaN
set xtics () rotate by 35 right noenhanced scale 0
do for [i = 1:words(criteria)] { set xtics add (word(criteria, i) i) }
set xrange [0.4:words(criteria) + 0.6]
set yrange [0:1.2]  # room for the key
set ytics 0, 0.2, 1
unset grid
set grid ytics
set boxwidth 0.25
set style fill solid 1 noborder
do for [ext in "png svg"] {
    eval terminal(ext, 1300, 560)
    set output dst . "/predictability." . ext
    set multiplot layout 1,2 title sprintf("Predictability of each criterion, %s predictor, targets per %s", design, target)
    do for [kind in "heads neurons"] {
        set title kind offset 0,-0.6
        set ylabel "Spearman's rho within layers" offset 1,0
        set key top left
        plot metrics using (at(stringcolumn("criterion")) - 0.26):(rho(kind, "predictor")) with boxes linecolor rgb "#1b6ca8" title kind eq "heads" ? "predictor" : "", \
             metrics using (at(stringcolumn("criterion"))):(rho(kind, "task_mean")) with boxes linecolor rgb "#8f9bb0" title kind eq "heads" ? "mean of its task in the training part" : "", \
             metrics using (at(stringcolumn("criterion")) + 0.26):(rho(kind, "static_mean")) with boxes linecolor rgb "#d5d9e0" title kind eq "heads" ? "mean of the training part" : ""
    }
    unset multiplot
    unset output
}
