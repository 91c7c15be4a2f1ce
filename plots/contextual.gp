# contextual - word perplexity and mean accuracy over sparsity for some kinds of masks that act on the same positions,
# dense model included; points: means over the seeds, bars: least and greatest of them. Called by contextual_*.gp, which
# set figure, heading and the curves: for each of `curves` which(c) (an awk condition), label(c), shade(c), stroke(c)
# (dash) and point(c).
sweep = src . "/sweep.csv"
if (!present(sweep)) { print missing(sweep); exit }
criteria = distinct(sweep, "criterion", "f[\"mask\"] == \"contextual\"")
if (!exists("criterion")) criterion = words(distinct(sweep, "task", "f[\"mask\"] == \"contextual\" && f[\"criterion\"] == \"plainact\"")) ? "plainact" : word(criteria . " none", 1)
rows(task) = sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] == \"%s\" && f[\"metric\"] == \"%s\"", mode, task, task eq "mean" ? "acc" : "word_perplexity")
# measured at one sparsity only: a point, not a line from the dense model
single(c) = words(distinct(sweep, "sparsity", rows("mean") . " && f[\"mask_span\"] == \"decode\" && " . which(c))) == 1
of(c, task) = sprintf("%s && (%sf[\"mask_span\"] == \"decode\" && %s)", rows(task), single(c) ? "" : "f[\"mask\"] == \"none\" || ", which(c))
there = ""
do for [c in curves] { if (words(distinct(sweep, "task", sprintf("%s && %s", rows("mean"), which(c))))) { there = there . " " . c } }
if (words(there) < 2 || words(distinct(sweep, "sparsity", rows("mean") . " && f[\"mask\"] == \"contextual\"")) < 2) {
    print sprintf("%s: no contextual masks at several sparsities; %s is left out", sweep, figure); exit
}
unset datafile columnheaders
right = 0
do for [p in distinct(sweep, "sparsity", rows("mean"))] { if (p > right) { right = p + 0 } }
set xrange [-0.03 * right:1.03 * right]
if (right > 30) { set xtics 10 } else { set xtics 5 }
set xlabel "% of heads and neurons pruned" offset 0,0.3
do for [ext in "png svg"] {
    eval terminal(ext, 1440, 600)
    set output dst . "/" . figure . "." . ext
    set multiplot title sprintf("%s\n{/*0.8 %s; masks act from the end of the context on; means over the seeds, bars: least and greatest}", heading, plain(criterion)) offset 0,-0.3
    do for [k = 1:2] {
        task = k == 1 ? "wikitext" : "mean"
        factor = k == 1 ? 1 : 100
        set lmargin at screen 0.055 + (k - 1) * 0.395
        set rmargin at screen 0.365 + (k - 1) * 0.395
        set tmargin at screen 0.84
        set bmargin at screen 0.12
        set ylabel k == 1 ? "word perplexity" : "mean accuracy, %" offset 0.3,0
        if (k == 2) { set key at screen 0.995, screen 0.84 right top spacing 1.3 samplen 2.5 } else { unset key }
        plot for [c in there] curve(sweep, of(c, task), "sparsity", "value") using 1:(factor * $2):(factor * $3):(factor * $4) with yerrorbars linecolor rgb shade(c) pointtype 0 linewidth 1 notitle, \
             for [c in there] curve(sweep, of(c, task), "sparsity", "value") using 1:(factor * $2) with linespoints linecolor rgb shade(c) linewidth 2 dashtype stroke(c) pointtype point(c) \
                 pointsize 0.9 title label(c)
    }
    unset multiplot
    unset output
}
