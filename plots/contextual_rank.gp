# contextual_rank - what the rank of predictors (hidden units of each net) buys and costs: word perplexity, rank
# correlation on held-out documents, time. Reads SRC/ranks.csv, SRC/ranks_metrics.csv (experiments/ranks.sh) and
# SRC/ranks_bench.csv (bin/bench); points: means over the seeds, bars: least and greatest.
load "plots/common.gp"
quality = src . "/ranks.csv"
metrics = src . "/ranks_metrics.csv"
times = src . "/ranks_bench.csv"
if (!present(quality)) { print missing(quality); exit }
if (!present(metrics)) { print missing(metrics); exit }
if (!present(times)) { print missing(times); exit }
sparsities = distinct(quality, "sparsity", "f[\"mask\"] == \"contextual\"")
if (!exists("sparsity")) sparsity = word(sparsities, words(sparsities))
designs = "shadow dejavu"
of(d) = sprintf("f[\"design\"] == \"%s\"", d)
name(d) = d eq "shadow" ? "early" : "per layer, look-ahead"
shade(d) = d eq "shadow" ? "#1b6ca8" : "#c0392b"
masked(mask, scope) = sprintf("f[\"metric\"] == \"word_perplexity\" && f[\"mask\"] == \"%s\" && f[\"scope\"] == \"%s\" && f[\"sparsity\"] == \"%s\"", mask, scope, sparsity)
average(file, where, y) = real("0" . system(sprintf("awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s) {s += f[\"%s\"]; c++} END {if (c) print s / c}' '%s'", where, y, file)))
array at_static = [average(quality, masked("static", "local"), "value"), average(quality, masked("static", "global"), "value")]
by(who, d, u) = sprintf("%s && f[\"by\"] == \"%s\" && f[\"units\"] == \"%s\"", of(d), who, u)
baselines = distinct(metrics, "by", "f[\"by\"] ~ /_mean$/")
name_of(b) = b eq "static_mean" ? "mean score" : "mean score of the task"
at(b, u) = average(metrics, by(b, "shadow", u), "within_rho")
timed(d, refresh) = sprintf("%s && f[\"metric\"] == \"token_ms\" && f[\"refresh\"] == \"%s\"", of(d), refresh)
static_ms = average(times, "f[\"mask\"] == \"static\" && f[\"metric\"] == \"token_ms\"", "value")
unset datafile columnheaders
set logscale x 2
set xlabel "rank" offset 0,0.3
set xrange [50:2600]
left(k) = 0.05 + (k - 1) * 0.325
do for [ext in "png svg"] {
    eval terminal(ext, 1560, 620)
    set output dst . "/contextual_rank." . ext
    set multiplot title "Rank of predictors of plainact: quality and time\n{/*0.8 masks act from the end of the context on, heads and neurons; bars: least and greatest of the seeds}" offset 0,-0.3
    set tmargin at screen 0.68
    set bmargin at screen 0.1
    set key at graph 0, graph 1.36 left top spacing 1.1 samplen 2.5 font ",11"
    set lmargin at screen left(1); set rmargin at screen left(1) + 0.265
    set ylabel sprintf("word perplexity at %s %%", sparsity) offset 0.3,0
    plot for [s in "local global"] for [d in designs] curve(quality, of(d) . " && " . masked("contextual", s), "hidden", "value") using 1:2:3:4 with yerrorlines linecolor rgb shade(d) linewidth 2 \
             dashtype 1 + (s ne "local") pointtype (s eq "local" ? 5 : 4) title name(d) . ", " . s, \
         for [k = 1:2] 0 + at_static[k] with lines linecolor rgb "#2e8b57" linewidth 1.5 dashtype k title "static, " . word("local global", k)
    set lmargin at screen left(2); set rmargin at screen left(2) + 0.265
    set ylabel "Spearman's rho within layers" offset 0.3,0
    plot for [u in "heads neurons"] for [d in designs] curve(metrics, by("predictor", d, u), "hidden", "within_rho") using 1:2:3:4 with yerrorlines linecolor rgb shade(d) linewidth 2 \
             dashtype 1 + (u ne "heads") pointtype (u eq "heads" ? 5 : 4) title name(d) . ", " . u, \
         for [b in baselines] for [k = 1:2] 0 + at(b, word("heads neurons", k)) with lines linecolor rgb (b eq "static_mean" ? "#2e8b57" : "#7d4bb0") linewidth 1.5 dashtype k \
             title name_of(b) . ", " . word("heads neurons", k)
    set lmargin at screen left(3); set rmargin at screen left(3) + 0.265
    set ylabel "ms" offset 0.3,0
    set yrange [0:*]
    plot for [d in designs] curve(times, timed(d, "1"), "hidden", "value") using 1:2 with linespoints linecolor rgb shade(d) linewidth 2 pointtype 5 title ("a token, masks of its own: " . name(d)), \
         for [d in designs] curve(times, timed(d, "1"), "hidden", "predict_ms") using 1:2 with linespoints linecolor rgb shade(d) linewidth 2 dashtype 2 pointtype 4 title "of it predicting: " . name(d), \
         static_ms with lines linecolor rgb "#2e8b57" linewidth 1.5 title "a token, static mask"
    set autoscale y
    unset multiplot
    unset output
}
