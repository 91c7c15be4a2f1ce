# paper_head_ranks - how much the rank of each head depends on the input: variance of its rank over all examples,
# divided by the squared number of heads, coloured by layer; the line is that of ranks drawn at random, 1/12. (The
# published figure draws the variance of a histogram beside that of the numbers 1 to n, which are different quantities;
# its data are not published.) Reads SRC/head_scores.csv.
load "plots/common.gp"
scores = src . "/head_scores.csv"
wanted = "grad_norm plainact l2_norm"
all = sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] == \"all\" && f[\"rank_variance\"] != \"\"", mode)
criteria = present(scores) ? distinct(scores, "criterion", all) : ""
# distance of a head from the left: layer, head, variance
heads(c) = sprintf("< awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s && f[\"criterion\"] == \"%s\") {print k++ \",\" f[\"layer\"] \",\" f[\"rank_variance\"]}' '%s'", all, c, scores)
set palette defined (0 "#1b2a6b", 0.35 "#1b8ca8", 0.7 "#e0a000", 1 "#c0392b")
set logscale y
set format y "10^{%T}"
set cblabel "layer" offset -0.5,0
set ylabel "variance of the rank / heads^2" offset 0.6,0
set xlabel "head (layer by layer)" offset 0,0.4
set yrange [*:0.3]
do for [ext in "png svg"] {
    eval terminal(ext, 1500, 500)
    set output dst . "/paper_head_ranks." . ext
    set multiplot layout 1,3 title "Dependence of each head's rank on the input" offset 0,-0.2
    do for [name in wanted] {
        set title name offset 0,-0.6 noenhanced
        unset label
        if ((sum [i = 1:words(criteria)] (word(criteria, i) eq name)) == 0) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            unset colorbox; unset xtics; unset ytics
            plot [3:4] [3:4] NaN notitle
            set colorbox; set xtics nomirror; set ytics nomirror
        } else {
            unset datafile columnheaders
            stats heads(name) using 2 nooutput name "L"
            set cbtics 0,step(L_max + 1)
            set label 1 "random order" at graph 0.03, first 1.0 / 12 offset 0,0.7 textcolor rgb "#606060" font ",11"
            plot heads(name) using 1:3:2 with points pointtype 7 pointsize 0.9 linecolor palette notitle, \
                 1.0 / 12 with lines linecolor rgb "#808080" linewidth 1.5 dashtype 3 notitle
            set datafile columnheaders
        }
    }
    unset multiplot
    unset output
}
