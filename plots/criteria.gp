# criteria - one metric over sparsity, a line for each criterion (static masks), random and oracle masks, and the dense model.
# Called by criteria_perplexity.gp and criteria_accuracy.gp, which set metric, task, figure, title and axis.
sweep = src . "/sweep.csv"
if (!present(sweep)) { print missing(sweep); exit }
rows = sprintf("f[\"mode\"] == \"%s\" && f[\"metric\"] == \"%s\" && f[\"task\"] == \"%s\"", mode, metric, task)
if (!exists("scope")) scope = word(distinct(sweep, "scope", rows) . " global", 1)
if (!exists("units")) units = word(distinct(sweep, "units", rows) . " heads", 1)
ours = sprintf("%s && f[\"scope\"] == \"%s\" && f[\"units\"] == \"%s\"", rows, scope, units)
criteria = distinct(sweep, "criterion", ours . " && f[\"mask\"] == \"static\"")
others = distinct(sweep, "mask", ours . " && f[\"mask\"] != \"static\"")
dense = distinct(sweep, "value", rows . " && f[\"mask\"] == \"none\"")
if (words(criteria) + words(others) == 0) { print sprintf("%s: no rows of %s, %s masks; this figure is left out", sweep, metric, scope); exit }

label(m) = m eq "oracle" ? "oracle mask" : m eq "random" ? "random mask" : m . " mask"
as(m) = m eq "oracle" ? "removal" : m
quality(kind, name) = is("mode", mode) && is("metric", metric) && is("task", task) && is("scope", scope) && is("units", units) && is("mask", kind) \
                    && (kind ne "static" || is("criterion", name)) ? column("value") * factor : NaN
what = units eq "both" ? "heads and neurons" : units

set key outside right center spacing 1.25 samplen 2.5
set xlabel sprintf("%% of %s pruned", what) offset 0,0.3
set ylabel ytitle
set title sprintf("%s\n{/*0.8 %s masks, %s definitions}", heading, scope, mode) offset 0,-0.4
set xrange [-2:102]
set xtics 10
set yrange [*:*] noextend
set offsets graph 0, 0, graph 0.04, graph 0.04
do for [ext in "png svg"] {
    eval terminal(ext, 1100, 640)
    set output dst . "/" . figure . "." . ext
    plot for [c in criteria] sweep using (column("sparsity")):(quality("static", c)) smooth unique with linespoints linecolor rgb colour(c) linewidth 2 \
             pointtype mark(c) pointsize 0.9 title c, \
         for [m in others] sweep using (column("sparsity")):(quality(m, "")) smooth unique with linespoints linecolor rgb colour(as(m)) linewidth 2.2 \
             dashtype dash(as(m)) pointtype mark(as(m)) pointsize 0.9 title label(m), \
         for [d in word(dense, 1)] d * factor with lines linecolor rgb "#b0b0b0" linewidth 1.5 dashtype 3 title "dense"
    unset output
}
