# criteria - one metric over sparsity, a line for each criterion (static masks), random and oracle masks, and the dense
# model. Called by criteria_perplexity.gp and criteria_accuracy.gp, which set metric, task, figure, title and axis.
sweep = src . "/sweep.csv"
if (!present(sweep)) { print missing(sweep); exit }
rows = sprintf("f[\"mode\"] == \"%s\" && f[\"metric\"] == \"%s\" && f[\"task\"] == \"%s\"", mode, metric, task)
if (!exists("scope")) scope = word(distinct(sweep, "scope", rows) . " global", 1)
if (!exists("units")) units = word(distinct(sweep, "units", rows) . " heads", 1)
ours = sprintf("%s && f[\"scope\"] == \"%s\" && f[\"units\"] == \"%s\"", rows, scope, units)
criteria = distinct(sweep, "criterion", ours . " && f[\"mask\"] == \"static\"")
others = distinct(sweep, "mask", ours . " && f[\"mask\"] != \"static\" && f[\"mask\"] != \"contextual\"")
dense = word(distinct(sweep, "value", rows . " && f[\"mask\"] == \"none\""), 1)
spread = word(distinct(sweep, "stderr", rows . " && f[\"mask\"] == \"none\""), 1) . " 0"
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
stats sweep using (is("mode", mode) && is("metric", metric) && is("task", task) && is("scope", scope) && is("units", units) ? column("sparsity") : NaN):\
                  (is("mode", mode) && is("metric", metric) && is("task", task) && is("scope", scope) && is("units", units) ? column("value") * factor : NaN) nooutput
right = STATS_max_x > 0 ? STATS_max_x : 100
least = (dense - word(spread, 1)) * factor  # of the dense model
most = (dense + word(spread, 1)) * factor
low = words(dense) && least < STATS_min_y ? least : STATS_min_y
high = words(dense) && most > STATS_max_y ? most : STATS_max_y
set xrange [-0.02 * right:1.02 * right]
if (right > 30) { set xtics 10 } else { set xtics 5 }
if (logarithmic) {
    set logscale y
    set yrange [low / (high / low) ** 0.05:high * (high / low) ** 0.05]
    set ytics ()
    set grid ytics
    do for [e = -2:8] { do for [m in high / low < 8 ? "1 1.2 1.5 2 3 4 5 6 7 8 9" : high / low < 300 ? "1 2 5" : "1"] { set ytics add (sprintf("%g", m * 10 ** e) m * 10 ** e) } }
} else {
    set yrange [low - 0.05 * (high - low):high + 0.05 * (high - low)]
}
do for [ext in "png svg"] {
    eval terminal(ext, 1100, 640)
    set output dst . "/" . figure . "." . ext
    plot for [d in dense] '+' using 1:(least):(most) with filledcurves fillcolor rgb "#f0f0f0" title "dense ± standard error", \
         for [d in dense] d * factor with lines linecolor rgb "#909090" linewidth 1.5 dashtype 3 notitle, \
         for [c in criteria] sweep using (column("sparsity")):(quality("static", c)) smooth unique with linespoints linecolor rgb colour(c) linewidth 2 \
             pointtype mark(c) pointsize 0.9 title c, \
         for [m in others] sweep using (column("sparsity")):(quality(m, "")) smooth unique with linespoints linecolor rgb colour(as(m)) linewidth 2.2 \
             dashtype dash(as(m)) pointtype mark(as(m)) pointsize 0.9 title label(m)
    unset output
}
