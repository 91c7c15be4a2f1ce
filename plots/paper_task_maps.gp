# paper_task_maps - scores of each task: a line of maps for a task, a column for a criterion. Heads: layer (up) by head.
# Neurons: layer (up) by the quantiles within the layer. Each map goes from its own least (light) to its own largest
# score (dark). Reads SRC/head_scores.csv and SRC/score_stats.csv.
load "plots/common.gp"
quantiles = "0 5 10 25 50 75 90 95 100"
array kind[2] = ["heads", "neurons"]
array file[2] = [src . "/head_scores.csv", src . "/score_stats.csv"]
array rows[2] = ["f[\"score\"] != \"\"", "f[\"units\"] == \"neurons\" && f[\"layer\"] != \"all\""]
array cells[2] = ["print f[\"head\"] \",\" f[\"layer\"] \",\" f[\"score\"]", \
                  "for (i = 1; i <= m; i++) print i - 1 \",\" f[\"layer\"] \",\" f[\"q\" q[i]]"]
of(k) = sprintf("f[\"mode\"] == \"%s\" && f[\"task\"] != \"all\" && %s", mode, rows[k])
# x, layer and score of a task's map, the score scaled to 0 .. 1
map(k, t, c) = sprintf("< awk -F, -v list='%s' 'BEGIN {m = split(list, q, \" \")} /^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s && f[\"task\"] == \"%s\" && f[\"criterion\"] == \"%s\") {%s}' '%s' | awk -F, '{x[NR] = $1; y[NR] = $2; v[NR] = $3 + 0; if (NR == 1 || v[NR] < a) a = v[NR]; if (NR == 1 || v[NR] > b) b = v[NR]} END {for (i = 1; i <= NR; i++) printf \"%%s,%%s,%%.3f\\n\", x[i], y[i], (b > a ? (v[i] - a) / (b - a) : 0.5)}'", quantiles, of(k), t, c, cells[k], file[k])
set palette defined (0 "#f7f4ec", 0.35 "#f3b562", 0.7 "#c0392b", 1 "#3b0f3f")
set cbrange [0:1]
unset key
unset grid
unset colorbox
unset xtics
unset ytics
set border 15 linecolor rgb "#c0c0c0"
do for [k = 1:2] {
    tasks = present(file[k]) ? distinct(file[k], "task", of(k)) : ""
    criteria = present(file[k]) ? distinct(file[k], "criterion", of(k)) : ""
    across = words(criteria) ? words(criteria) : 1
    down = words(tasks) ? words(tasks) : 1
    do for [ext in "png svg"] {
        eval terminal(ext, 110 * across + 115, 100 * down + 70)
        set output dst . "/paper_task_maps_" . kind[k] . "." . ext
        set multiplot title sprintf("Scores of the %s by task and criterion", kind[k])
        if (words(criteria) == 0) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            plot [3:4] [3:4] NaN notitle
            unset label 1
        }
        wide = 110.0 * across + 115
        high = 100.0 * down + 70
        do for [j = 1:words(tasks)] {
            there = distinct(file[k], "criterion", of(k) . sprintf(" && f[\"task\"] == \"%s\"", word(tasks, j)))
            do for [i = 1:words(criteria)] {
                set lmargin at screen (110 + 110.0 * (i - 1)) / wide
                set rmargin at screen (110 + 110.0 * i - 8) / wide
                set tmargin at screen 1 - (60 + 100.0 * (j - 1)) / high
                set bmargin at screen 1 - (60 + 100.0 * j - 8) / high
                unset label
                if (j == 1) { set label 1 word(criteria, i) at graph 0.5,1.1 center noenhanced font ",11" }
                if (i == 1) { set label 2 word(tasks, j) at graph -0.06,0.5 right noenhanced font ",11" }
                set autoscale noextend
                if ((sum [_i = 1:words(there)] (word(there, _i) eq word(criteria, i))) == 0) {
                    set label 3 "none" at graph 0.5,0.5 center textcolor rgb "#808080" font ",11"
                    plot [3:4] [3:4] NaN notitle
                    continue
                }
                unset datafile columnheaders
                plot map(k, word(tasks, j), word(criteria, i)) using 1:2:3 with image
                set datafile columnheaders
            }
        }
        unset multiplot
        unset output
        # a viewer is not to smooth the cells
        if (ext eq "svg") { system(sprintf("sed -i 's/<image /<image style=\"image-rendering: pixelated\" /' '%s/paper_task_maps_%s.svg'", dst, kind[k])) }
        unset label
        unset lmargin; unset rmargin; unset tmargin; unset bmargin
    }
}
