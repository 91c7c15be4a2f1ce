# time_batch - contextual masks of a batch of sequences, each its own or their union: how many units the union leaves,
# what it does to perplexity, heads and neurons apart where both were run, and the time of a step, over the size of the batch. Reads
# SRC/bench.csv with rows of --batch-masks and --wikitext (`make batch`).
load "plots/common.gp"
times = src . "/bench.csv"
if (!present(times)) { print missing(times); exit }
if (!exists("model")) model = word(distinct(times, "model", "f[\"batch_masks\"] == \"union\" && f[\"metric\"] == \"decode_perplexity\"") . " -", 1)
if (model eq "-") { print sprintf("%s: no unions of masks; time_batch is left out", times); exit }
weights = word(distinct(times, "weights", sprintf("f[\"model\"] == \"%s\"", model)) . " -", 1)
of = sprintf("f[\"model\"] == \"%s\" && f[\"weights\"] == \"%s\" && f[\"lists\"] != \"own\"", model, weights)
ours(metric, units, p, way) = sprintf("%s && f[\"metric\"] == \"%s\" && f[\"mask\"] == \"contextual\" && f[\"units\"] == \"%s\" && f[\"sparsity\"] == \"%s\" && (f[\"batch_masks\"] == \"%s\" || f[\"batch\"] == 1)", of, metric, units, p, way)
sparsities = distinct(times, "sparsity", of . " && f[\"mask\"] == \"contextual\"")
kinds = distinct(times, "units", of . " && f[\"mask\"] == \"contextual\"")
dense(metric) = sprintf("%s && f[\"metric\"] == \"%s\" && f[\"mask\"] == \"none\"", of, metric)
apart = words(kinds) > 1
shades = "#7fb2dc #1b6ca8 #7d4bb0 #c0392b"
shade(k) = word(shades, k + (words(sparsities) < 3))
unset datafile columnheaders
set logscale x 2
set xlabel "sequences at once" offset 0,0.3
set xrange [0.9:18]
timed = words(distinct(times, "metric", of . " && f[\"metric\"] == \"token_ms\"")) > 0
panels = 2 + apart + timed
pixels = 430 * panels
wide = 330.0 / pixels
left(k) = ((k - 1) * 430.0 + 78) / pixels
panel(k) = sprintf("set lmargin at screen %g; set rmargin at screen %g", left(k), left(k) + wide)
do for [ext in "png svg"] {
    eval terminal(ext, pixels, 600)
    set output dst . "/time_batch." . ext
    set multiplot title sprintf("Contextual masks of a batch: each sequence its own, or the union of all\n{/*0.8 %s, %s weights}", plain(model), plain(weights)) offset 0,-0.3
    set tmargin at screen 0.62
    set bmargin at screen 0.11
    set key at graph 0, graph 1.5 left top spacing 1.05 samplen 2.5 font ",11"
    eval panel(1)
    set ylabel "% of all units that the union runs" offset 0.8,0
    set yrange [0:100]
    plot for [k = 1:words(sparsities)] curve(times, ours("decode_perplexity", "both", word(sparsities, k), "union"), "batch", "effective_heads") using 1:(100 - 100 * $2) with linespoints linecolor rgb shade(k) linewidth 2 pointtype 5 \
             title sprintf("heads, %s %% pruned of each", word(sparsities, k)), \
         for [k = 1:words(sparsities)] curve(times, ours("decode_perplexity", "both", word(sparsities, k), "union"), "batch", "effective_neurons") using 1:(100 - 100 * $2) with linespoints linecolor rgb shade(k) linewidth 2 dashtype 2 pointtype 4 \
             title sprintf("neurons, %s %%", word(sparsities, k))
    set autoscale y
    quality = apart ? "heads neurons" : "both"
    do for [q = 1:words(quality)] {
        eval panel(1 + q)
        set ylabel "perplexity, " . (apart ? word(quality, q) . " pruned" : "heads and neurons pruned") offset 0.8,0
        plot for [k = 1:words(sparsities)] curve(times, ours("decode_perplexity", word(quality, q), word(sparsities, k), "union"), "batch", "value") using 1:2 with linespoints linecolor rgb shade(k) linewidth 2 pointtype 5 \
                 title sprintf("union, %s %%", word(sparsities, k)), \
             for [k = 1:words(sparsities)] curve(times, ours("decode_perplexity", word(quality, q), word(sparsities, k), "own"), "batch", "value") using 1:2 with linespoints linecolor rgb shade(k) linewidth 2 dashtype 2 pointtype 4 \
                 title sprintf("own, %s %%", word(sparsities, k)), \
             curve(times, dense("decode_perplexity"), "batch", "value") using 1:2 with lines linecolor rgb "#505050" dashtype 3 linewidth 2 title "dense"
    }
    if (timed) {
        eval panel(panels)
        set ylabel "ms of a step, for each sequence" offset 0.8,0
        set yrange [0:*]
        plot for [k = 1:words(sparsities)] curve(times, ours("token_ms", "both", word(sparsities, k), "union"), "batch", "value") using 1:($2 / $1) with linespoints linecolor rgb shade(k) linewidth 2 pointtype 5 \
                 title sprintf("union, %s %%", word(sparsities, k)), \
             for [k = 1:words(sparsities)] curve(times, ours("token_ms", "both", word(sparsities, k), "own"), "batch", "value") using 1:($2 / $1) with linespoints linecolor rgb shade(k) linewidth 2 dashtype 2 pointtype 4 \
                 title sprintf("own, %s %%", word(sparsities, k)), \
             curve(times, dense("token_ms"), "batch", "value") using 1:($2 / $1) with linespoints linecolor rgb "#505050" dashtype 3 linewidth 2 pointtype 6 title "dense"
        set autoscale y
    }
    unset multiplot
    unset output
}
