# quality_bits - word perplexity over the time of a token for weights of 16, 8 and 4 bits: a panel for each criterion, a
# curve for each type of weight, a point for each sparsity. Reads SRC/sweep.csv and SRC/bench.csv of the same weights
# and masks (`make bits`); rows belong together when model, weights, criterion, scope, units and sparsity agree.
load "plots/common.gp"
sweep = src . "/sweep.csv"
times = src . "/bench.csv"
if (!present(sweep)) { print missing(sweep); exit }
if (!present(times)) { print missing(times); exit }
# points(c, w): sparsity, 10th percentile of the ms of a token (the machine is shared), perplexity. sweep names weights that are not the
# stored ones after the model.
stored = word(distinct(times, "weights", "1") . " -", 1)
points(c, w) = sprintf("< sed 's/\"\\([^\",]*\\), weights \\([a-z0-9_]*\\)\"/\\1:\\2/' '%s' | awk -F, -v c=%s -v w=%s -v stored=%s '/^#/ {next} FILENAME != last {last = FILENAME; file++; n = split($0, h, \",\"); next} \
    {for (i = 1; i <= n; i++) f[h[i]] = $i; dense = f[\"mask\"] == \"none\"} !dense && f[\"criterion\"] != c {next} \
    {k = f[\"sparsity\"] + 0; split(f[\"model\"], m, \":\"); of = m[2] == \"\" ? stored : m[2]} \
    file == 1 && f[\"metric\"] == \"token_ms\" && f[\"weights\"] == w {ms[k] = f[\"p10\"]} \
    file == 2 && f[\"metric\"] == \"word_perplexity\" && of == w && k in ms {print k \",\" ms[k] \",\" f[\"value\"]}' '%s' - | sort -g", sweep, c, w, stored, times)
criteria = distinct(times, "criterion", "f[\"mask\"] == \"static\"")
weights = distinct(times, "weights", "1")
model = word(distinct(times, "model", "1") . " -", 1)
shades = "#505050 #1b6ca8 #c0392b #2e8b57"
unset datafile columnheaders
set xlabel "ms per token, 10th percentile" offset 0,0.3
set yrange [0:*]
wide = 0.9 / words(criteria) - 0.05
do for [ext in "png svg"] {
    eval terminal(ext, 1440, 560)
    set output dst . "/quality_bits." . ext
    set multiplot title sprintf("Quality over time, by the bits of a weight\n{/*0.8 %s; static local masks; numbers: %% of heads and neurons pruned}", plain(model)) offset 0,-0.3
    set tmargin at screen 0.8
    set bmargin at screen 0.12
    do for [k = 1:words(criteria)] {
        c = word(criteria, k)
        set lmargin at screen 0.05 + (k - 1) * (wide + 0.05)
        set rmargin at screen 0.05 + (k - 1) * (wide + 0.05) + wide
        set title plain(c) offset 0,-0.6
        set ylabel k == 1 ? "word perplexity" : "" offset 0.3,0
        if (k == words(criteria)) { set key at screen 0.995, screen 0.8 right top spacing 1.3 samplen 2.5 } else { unset key }
        plot for [w = 1:words(weights)] points(c, word(weights, w)) using 2:3 with linespoints linecolor rgb word(shades, w) linewidth 2 pointtype 4 + w pointsize 1 title word(weights, w), \
             for [w = 1:words(weights)] points(c, word(weights, w)) using 2:3:(sprintf("%g", $1)) with labels offset 0.9,0.5 font ",9" textcolor rgb word(shades, w) notitle
    }
    unset multiplot
    unset output
}
