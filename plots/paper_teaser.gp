# paper_teaser - mean accuracy of the same masks over their time per token: early plainact against per-layer l2_norm.
# Masks act from the end of the context on; left they are made once, as in the accuracies, in the middle at every token,
# as the paper times them. The paper's own times of this figure are of another configuration; its accuracies are on the
# right.
load "plots/common.gp"
ours = src . "/tables/teaser.csv"
theirs = src . "/tables/teaser_published.csv"
array title_of[3] = ["here, masks made once", "here, masks made at every token", "published: OPT-13B, heads alone"]
shade(m) = m eq "early plainact" ? "#1b6ca8" : "#c0392b"
form(m) = m eq "early plainact" ? 5 : 9
methods = '"early plainact" "per layer l2_norm"'
ms_of(m, k) = m . " ms (" . (k == 1 ? "masks once" : "masks at every token") . ")"
there(file, head) = present(file) && int(system(sprintf("awk -F, -v h='%s' 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == h) c = i; next} c && $c != \"\" {n++} END {print n + 0}' '%s'", head, file))) > 0
set ylabel "mean accuracy %" offset 0.6,0
set key below center horizontal samplen 2 font ",11"
set bmargin 6.5
set offsets graph 0.08, graph 0.08, graph 0.08, graph 0.08
do for [ext in "png svg"] {
    eval terminal(ext, 1500, 560)
    set output dst . "/paper_teaser." . ext
    set multiplot layout 1,3 title "Accuracy over time per token (numbers: % pruned)" offset 0,-0.2
    do for [k = 1:3] {
        unset label
        set title title_of[k] offset 0,-0.6
        set xlabel k < 3 ? "ms per token" : "% pruned" offset 0,0.4
        if (k < 3) { set xtics nomirror rotate by 40 right font ",11" } else { set xtics nomirror norotate font "" }
        file = k < 3 ? ours : theirs
        seen = 0
        do for [m in methods] { seen = seen + (there(file, m . " accuracy %") && (k == 3 || there(file, ms_of(m, k)))) }
        if (seen < 2) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            set xrange [1:2]; set yrange [1:2]; set format ""
            plot NaN notitle
            set format "%g"; set xrange [*:*]; set yrange [*:*]
        } else {
            plot for [m in methods] file using (column(k < 3 ? ms_of(m, k) : "sparsity %")):(column(m . " accuracy %")) with linespoints linewidth 1.5 \
                     linecolor rgb shade(m) pointtype form(m) pointsize 1.1 title m, \
                 for [m in methods] file using (column(k < 3 ? ms_of(m, k) : "sparsity %")):(column(m . " accuracy %")):(k < 3 ? stringcolumn("sparsity %") : "") \
                     with labels offset 0.9,0.7 font ",9" textcolor rgb shade(m) notitle
        }
    }
    unset multiplot
    unset output
}
