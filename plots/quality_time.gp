# quality_time - word perplexity and mean accuracy of the same masks over their time per token (the predictions shared
# out): a curve for static masks and each predictor, a point for each sparsity. Reads SRC/sweep.csv and SRC/bench.csv;
# rows belong together when model, mask, criterion, design, target, lag, scope, units and sparsity agree.
load "plots/common.gp"
sweep = src . "/sweep.csv"
times = src . "/bench.csv"
if (!present(sweep)) { print missing(sweep); exit }
if (!present(times)) { print missing(times); exit }
if (!exists("scope")) scope = word(distinct(times, "scope", "f[\"mask\"] == \"static\"") . " global", 1)
# points(c, metric): ms, quality (mean over the seeds), sparsity; c: dense, static, or a design with its targets and lag
points(c, metric) = sprintf("awk -F, -v scope=%s -v metric=%s -v curve=%s '/^#/ {next} FILENAME != last {last = FILENAME; file++; n = split($0, h, \",\"); next} \
    {for (i = 1; i <= n; i++) f[h[i]] = $i; name = f[\"mask\"] == \"none\" ? \"dense\" : f[\"design\"] == \"\" ? f[\"mask\"] : f[\"design\"] \":\" f[\"target\"] \":\" f[\"lag\"]} \
    (name != curve && curve != \"any\") || (name != \"dense\" && f[\"scope\"] != scope) {next} \
    {k = f[\"model_hash\"] SUBSEP name SUBSEP (name == \"dense\" ? \"\" : f[\"criterion\"] SUBSEP f[\"scope\"] SUBSEP f[\"units\"]) SUBSEP f[\"sparsity\"]} \
    file == 1 && f[\"metric\"] == \"token_ms\" && f[\"engine\"] == \"own\" && f[\"batch\"] == 1 {ms[k] = f[\"amortised\"] + 0; next} \
    file == 2 && f[\"metric\"] == metric && f[\"aggregate\"] != \"task\" && (f[\"task\"] == \"mean\" || f[\"task\"] == \"wikitext\") && k in ms {q[k] += f[\"value\"]; c[k]++; of[k] = name; p[k] = f[\"sparsity\"]} \
    END {for (k in q) if (curve == \"any\") print of[k]; else print p[k] \",\" ms[k] \",\" q[k] / c[k]}' '%s' '%s' | sort -%s", scope, metric, c, times, sweep, c eq "any" ? "u" : "g")
found = system(points("any", "acc"))
curves = ""
do for [c in "dense static shadow:layer: shadow:global: dejavu:layer:0 dejavu:layer:1"] { if (sum [_i = 1:words(found)] (word(found, _i) eq c)) { curves = curves . " " . c } }
if (words(curves) < 2) { print sprintf("%s, %s: no masks that are in both; quality_time is left out", sweep, times); exit }
label(c) = c eq "dense" || c eq "static" ? c : c[1:12] eq "shadow:layer" ? "early predictor" : c[1:6] eq "shadow" ? "early (global targets)" : c eq "dejavu:layer:0" ? "per layer, same layer" \
         : c eq "dejavu:layer:1" ? "per layer, look-ahead" : c
shade(c) = c eq "dense" ? "#505050" : c eq "static" ? "#2e8b57" : c[1:12] eq "shadow:layer" ? "#1b6ca8" : c[1:6] eq "shadow" ? "#7fb2dc" : c eq "dejavu:layer:0" ? "#e07b00" : "#c0392b"
point(c) = c eq "dense" ? 3 : c eq "static" ? 6 : c[1:6] eq "shadow" ? 5 : 9
criterion = word(distinct(times, "criterion", "f[\"mask\"] == \"static\"") . " -", 1)
model = word(distinct(times, "model", "1") . " -", 1)
unset datafile columnheaders
set xlabel "ms per token" offset 0,0.3
set xtics font ",10"
do for [ext in "png svg"] {
    eval terminal(ext, 1440, 600)
    set output dst . "/quality_time." . ext
    set multiplot title sprintf("Quality over time of the same masks\n{/*0.8 %s, %s, %s masks; numbers: %% of heads and neurons pruned}", model, plain(criterion), scope) offset 0,-0.3
    do for [k = 1:2] {
        metric = k == 1 ? "word_perplexity" : "acc"
        factor = k == 1 ? 1 : 100
        set lmargin at screen 0.055 + (k - 1) * 0.395
        set rmargin at screen 0.365 + (k - 1) * 0.395
        set tmargin at screen 0.84
        set bmargin at screen 0.12
        set ylabel k == 1 ? "word perplexity" : "mean accuracy, %" offset 0.3,0
        if (k == 2) { set key at screen 0.995, screen 0.84 right top spacing 1.3 samplen 2.5 } else { unset key }
        plot for [c in curves] "< " . points(c, metric) using 2:(factor * $3) with linespoints linecolor rgb shade(c) linewidth 2 pointtype point(c) pointsize 1 title label(c), \
             for [c in curves] "< " . points(c, metric) using 2:(factor * $3):(c eq "dense" ? "" : sprintf("%g", $1)) with labels offset 0.9,0.6 font ",9" textcolor rgb shade(c) notitle
    }
    unset multiplot
    unset output
}
