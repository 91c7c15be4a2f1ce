# paper_neuron_scores - scores of the neurons by layer: quantiles within each layer, a map for each criterion with a
# colour scale of its own. Reads SRC/score_stats.csv.
load "plots/common.gp"
if (!exists("task")) task = "all"
stats_file = src . "/score_stats.csv"
rows = sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] == \"%s\" && f[\"units\"] == \"neurons\" && f[\"layer\"] != \"all\"", mode, task)
criteria = present(stats_file) ? distinct(stats_file, "criterion", rows) : ""
columns = words(criteria) && words(criteria) < 4 ? words(criteria) : 4
lines = words(criteria) ? (words(criteria) + columns - 1) / columns : 1
quantiles = "0 5 10 25 50 75 90 95 100"
cells(c) = sprintf("< awk -F, -v list='%s' 'BEGIN {m = split(list, q, \" \")} /^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s && f[\"criterion\"] == \"%s\") {for (i = 1; i <= m; i++) print i \",\" f[\"layer\"] \",\" f[\"q\" q[i]]}' '%s'", quantiles, rows, c, stats_file)
set palette defined (0 "#f7f4ec", 0.35 "#f3b562", 0.7 "#c0392b", 1 "#3b0f3f")
unset key
unset grid
set tics scale 0 font ",10"
set xtics ()
do for [i = 1:words(quantiles)] { set xtics add (word(quantiles, i) i) }
set cbtics font ",9" offset -0.5,0 autofreq
set format cb "%.2g"
set autoscale noextend
set xlabel "% of the layer's neurons" offset 0,0.7
set ylabel "layer" offset 0.3,0
do for [ext in "png svg"] {
    eval terminal(ext, 330 * columns + 40, 290 * lines + 60)
    set output dst . "/paper_neuron_scores." . ext
    set multiplot layout lines,columns title sprintf("Scores of the neurons, quantiles within each layer, %s", task eq "all" ? "all tasks" : task)
    if (words(criteria) == 0) {
        set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
        unset colorbox; unset xtics; unset ytics
        plot [3:4] [3:4] NaN notitle
    }
    unset datafile columnheaders
    do for [name in criteria] {
        set title name offset 0,-0.6 noenhanced
        stats cells(name) using 2 nooutput name "L"
        set ytics step(L_max + 1)
        plot cells(name) using 1:2:(0.5):(0.5):3 with boxxyerror fillstyle solid 1 noborder fillcolor palette
    }
    set datafile columnheaders
    unset multiplot
    unset output
}
