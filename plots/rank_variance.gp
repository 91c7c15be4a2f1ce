# rank_variance - how much a unit's rank depends on the input, by layer and criterion: variance of its rank over
# examples, divided by the squared number of units, mean over the units of the layer. A rank drawn independently for
# every example has 1/12. Reads SRC/rank_variance.csv.
load "plots/common.gp"
if (!exists("task")) task = "all"
ranks = src . "/rank_variance.csv"
if (!present(ranks)) { print missing(ranks); exit }
rows = sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] == \"%s\" && f[\"rank_variance\"] != \"\"", mode, task)
kinds = distinct(ranks, "units", rows)
if (words(kinds) == 0) { print ranks . ": no rank variance of task " . task . "; this figure is left out"; exit }
variance(kind, c) = is("mode", mode) && is("task", task) && is("units", kind) && is("criterion", c) ? column("rank_variance") : NaN
set logscale y
set format y "10^{%T}"
set xtics 1
set xlabel "layer" offset 0,0.3
set xrange [*:*] noextend
set yrange [*:0.3] noextend  # a rank that is now the first, now the last has 1/4
set offsets graph 0.03, graph 0.03, 0, graph 0.05
# One key for all panels, right of the last.
left(k) = (k - 1 + 0.15) * 0.87 / words(kinds)
right(k) = (k - 0.02) * 0.87 / words(kinds)
do for [ext in "png svg"] {
    eval terminal(ext, 620 * words(kinds) + 120, 600)
    set output dst . "/rank_variance." . ext
    set multiplot layout 1,words(kinds) title sprintf("Dependence of ranks on the input, %s, %s", mode, task eq "all" ? "all tasks" : task)
    do for [k = 1:words(kinds)] {
        kind = word(kinds, k)
        if (k == words(kinds)) { set key at screen 0.995, screen 0.8 right top spacing 1.25 samplen 2.5 } else { unset key }
        set lmargin at screen left(k)
        set rmargin at screen right(k)
        set title kind offset 0,-0.6
        if (k == 1) { set ylabel "variance of the rank / units^2" } else { unset ylabel }
        criteria = distinct(ranks, "criterion", rows . sprintf(" && f[\"units\"] == \"%s\"", kind))
        plot for [c in criteria] ranks using (column("layer")):(variance(kind, c)) smooth unique with linespoints linecolor rgb colour(c) linewidth 2 pointtype mark(c) \
                 pointsize 0.9 dashtype dash(c) title c, \
             1.0 / 12 with lines linecolor rgb "#b0b0b0" linewidth 1.5 dashtype 3 title "random order"
    }
    unset multiplot
    unset output
}
