# paper_score_spread - why some criteria are easier to predict: the scores of all units, min-max normalised as targets
# of predictors are; box: quartiles, line: median, whiskers: 5 and 95 %.
load "plots/common.gp"
array kind[2] = ["heads", "neurons"]
set style fill solid 0.35 border
set boxwidth 0.5
set xtics rotate by 30 right noenhanced scale 0
unset key
set yrange [-0.02:1.02]
set ylabel "score, min-max normalised" offset 0.6,0
do for [ext in "png svg"] {
    eval terminal(ext, 1280, 520)
    set output dst . "/paper_score_spread." . ext
    set multiplot layout 1,2 title "Spread of the scores, all tasks" offset 0,-0.2
    do for [k = 1:2] {
        file = src . "/tables/score_spread_" . kind[k] . ".csv"
        set title kind[k] offset 0,-0.6
        unset label
        if (!present(file)) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            plot [3:4] NaN notitle
        } else {
            set offsets 0.5, 0.5, 0, 0
            plot file using 0:(column("25 %")):(column("5 %")):(column("95 %")):(column("75 %")):xticlabels(1) with candlesticks linecolor rgb "#1b6ca8" linewidth 1.3 whiskerbars 0.6, \
                 file using 0:(column("median")):(column("median")):(column("median")):(column("median")) with candlesticks linecolor rgb "#c0392b" linewidth 2
            set offsets 0, 0, 0, 0
        }
    }
    unset multiplot
    unset output
}
