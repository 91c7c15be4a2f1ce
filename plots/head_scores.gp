# head_scores - a heat map of layers x heads for each criterion, each with a colour scale of its own. Reads
# SRC/head_scores.csv.
load "plots/common.gp"
if (!exists("task")) task = "all"
scores = src . "/head_scores.csv"
if (!present(scores)) { print missing(scores); exit }
criteria = distinct(scores, "criterion", sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] == \"%s\"", mode, task))
if (words(criteria) == 0) { print scores . ": no rows of task " . task . "; this figure is left out"; exit }
columns = words(criteria) < 4 ? words(criteria) : 4
lines = (words(criteria) + columns - 1) / columns
score(c) = is("mode", mode) && is("task", task) && is("criterion", c) ? column("score") : NaN
set palette defined (0 "#f7f4ec", 0.35 "#f3b562", 0.7 "#c0392b", 1 "#3b0f3f")
unset key
unset grid
set tics scale 0 font ",10"
set cbtics font ",9" offset -0.5,0
do for [ext in "png svg"] {
    eval terminal(ext, 330 * columns + 40, 290 * lines + 60)
    set output dst . "/head_scores." . ext
    set multiplot layout lines,columns title sprintf("Scores of the attention heads, %s, %s", mode, task eq "all" ? "all tasks" : task)
    do for [name in criteria] {
        set title name offset 0,-0.6 noenhanced
        set xrange [*:*]
        set yrange [*:*]
        set xlabel "head" offset 0,0.9
        set ylabel "layer" offset 0.3,0
        stats scores using (is("mode", mode) && is("task", task) && is("criterion", name) ? column("head") : NaN) nooutput name "H"
        stats scores using (is("mode", mode) && is("task", task) && is("criterion", name) ? column("layer") : NaN) nooutput name "L"
        stats scores using (score(name)) nooutput name "S"
        if (S_max > S_min) { set cbrange [S_min:S_max] } else { set cbrange [S_min - 1:S_min + 1] }
        set cbtics (sprintf("%.2g", S_min) S_min, sprintf("%.2g", (S_min + S_max) / 2) (S_min + S_max) / 2, sprintf("%.2g", S_max) S_max)
        set xtics step(H_max + 1) offset 0,0.4
        set ytics step(L_max + 1) offset 0.5,0
        set xrange [-0.5:H_max + 0.5]
        set yrange [-0.5:L_max + 0.5]
        plot scores using (column("head")):(column("layer")):(0.5):(0.5):(score(name)) with boxxyerror fillstyle solid 1 noborder fillcolor palette
    }
    unset multiplot
    unset output
}
