# paper - lines of a figure of the paper, ours and the published ones in panels of their own. Called by paper_*.gp,
# which set figure, heading and, for each panel k, panel[k] (its table SRC/tables/NAME.csv: the first column is x, each
# other one a line that its head names), title_of[k] and ytitle[k]; optionally xtitle, logarithmic (y), linear (the
# numbers of panels that are not logarithmic all the same), logarithmic_x, categories (x is a name), zero (a line at 0),
# without (heads that are not drawn, between bars), labels (the head of a column that is written beside the points of
# another, labels_at). A table that is not there, a column without a number and a row without one are "not run".
if (!exists("xtitle")) xtitle = "% pruned"
if (!exists("logarithmic")) logarithmic = 0
if (!exists("linear")) linear = ""
if (!exists("logarithmic_x")) logarithmic_x = 0
if (!exists("categories")) categories = 0
if (!exists("zero")) zero = 0
if (!exists("without")) without = ""
if (!exists("labels")) { labels = ""; labels_at = "" }
drawn(about, i) = strstrt("|" . without . "|", "|" . head(about, i) . "|") == 0
place_in(about, text) = (_p = 0, sum [_i = 1:columns(about)] (head(about, _i) eq text ? (_p = _i) : 0), _p)

# A line has the same colour in every panel and figure.
known = "|piqa|copa|openbookqa|winogrande|rte|hellaswag|arc_easy|early plainact|per layer l2_norm|per layer plainact|early l2_norm|reference plainact|reference l2_norm|threshold:gate|threshold:product|local|global|static|per layer|early|dense"
shades = "#1b6ca8 #e07b00 #2e8b57 #c0392b #7d4bb0 #8c5a3c #d45fa0 #1b6ca8 #c0392b #e07b00 #7fb2dc #7d4bb0 #d45fa0 #00a0a0 #1f3b57 #1b6ca8 #e07b00 #2e8b57 #e07b00 #1b6ca8 #505050"
points = "5 7 9 11 13 4 6 5 9 8 4 12 10 1 2 5 7 6 9 5 3"
palette_of = "#1b6ca8 #e07b00 #2e8b57 #c0392b #7d4bb0 #8c5a3c #d45fa0 #6b7280 #9a9d18 #00a0a0"
at_known(h) = (_k = 0, sum [_i = 1:words(shades)] (field(known, _i) eq h ? (_k = _i) : 0), _k)
shade(h, i) = place(h) ? colour(h) : at_known(h) ? word(shades, at_known(h)) : word(palette_of, (i - 2) % 10 + 1)
form(h, i) = place(h) ? mark(h) : at_known(h) ? word(points, at_known(h)) + 0 : word("5 7 9 11 13 4 6 8 10 12", (i - 2) % 10 + 1) + 0
num(c) = c eq "" ? 2 : c + 0
list(columns) = (_s = "1000", sum [_i = 1:words(columns)] (_s = _s . "," . word(columns, _i), 0), _s)
stroke(h) = h eq "dense" ? 3 : dash(h)

n = |panel|
across = n < 4 ? n : 2
down = (n + across - 1) / across
wide = across == 1 ? 900 : 640 * across
high = down == 1 ? 560 : 430 * down + 60
set xlabel xtitle offset 0,0.4
if (logarithmic_x) { set logscale x 2 }
if (zero) { set xzeroaxis linetype 1 linewidth 1.5 linecolor rgb "#505050" }
is_log(k) = logarithmic && strstrt(" " . linear . " ", sprintf(" %d ", k)) == 0
beside_axis = labels eq "" ? 0.03 : 0.08  # room for what is written beside the first point
left(k) = (0.115 + (k - 1) % across) / across
right(k) = (0.975 + (k - 1) % across) / across
top(k) = 1 - (50.0 + 30 + (high - 50.0) / down * ((k - 1) / across)) / high
bottom(k) = 1 - (50.0 - (categories ? 185 : 160) + (high - 50.0) / down * ((k - 1) / across + 1)) / high
# The parts of the plot command; gnuplot looks at a line once for an empty list too, hence c eq "".
xy = categories ? "(column(0)):(column(num(c)))" : "(column(1)):(column(num(c)))"
beside_it = categories ? "(column(0)):(column(beside))" : "(column(1)):(column(beside))"
of_line = "linecolor rgb shade(head(about, num(c)), num(c)) pointtype form(head(about, num(c)), num(c))"
lines = "for [c in drawn_columns] table(name) using @xy with linespoints @of_line linewidth 2 " . \
        "dashtype stroke(head(about, num(c))) pointsize 0.9 title head(about, num(c)), " . \
        "for [c in empty_columns] NaN with linespoints @of_line linewidth 1 " . \
        "title c eq '' ? '' : head(about, num(c)) . ': not run'"
do for [ext in "png svg"] {
    eval terminal(ext, wide, high)
    set output dst . "/" . figure . "." . ext
    set multiplot layout down,across title heading noenhanced offset 0,-0.2
    do for [k = 1:n] {
        name = panel[k]
        about = describe(name)
        m = columns(about)
        set lmargin at screen left(k); set rmargin at screen right(k)
        set tmargin at screen top(k); set bmargin at screen bottom(k)
        set key at screen (left(k) + right(k)) / 2, screen bottom(k) - (categories ? 75.0 : 55.0) / high center top \
                vertical maxrows 5 noenhanced samplen 2 spacing 1.15 font ",11" width -1
        set title title_of[k] offset 0,-0.6 noenhanced
        set ylabel ytitle[k] offset 0.6,0
        if (is_log(k)) {
            set logscale y
            set offsets graph beside_axis, graph beside_axis, 0, 0
        } else {
            unset logscale y
            set offsets graph beside_axis, graph beside_axis, graph 0.06, graph 0.04
        }
        unset label
        if (m < 2) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            unset xtics; unset ytics
            plot [3:4] [3:4] NaN notitle
        } else {
            ratio = place_in(about, labels)
            beside = place_in(about, labels_at)
            drawn_columns = ""; empty_columns = ""
            do for [i = 2:m] {
                if (drawn(about, i)) {
                    if (filled(about, i)) { drawn_columns = drawn_columns . " " . i } else { empty_columns = empty_columns . " " . i }
                }
            }
            set xrange [*:*]; set yrange [*:*]
            set xtics nomirror autofreq norotate
            if (!categories && groups(about) == 1) {  # one point a line: around it, at tens
                only = system(sprintf("sed -n 2p '%s' | cut -d , -f 1", table(name))) + 0
                set xrange [only - 10:only + 10]
            }
            if (categories) {
                set xtics () nomirror rotate by 25 right
                set xrange [-0.5:groups(about) - 0.5]
                rows = system(sprintf("awk -F, 'NR > 1 {f = 0; for (i = 2; i <= NF; i++) if ($i != \"\") f = 1; printf \"|%%s|%%d\", $1, f}' '%s'", table(name)))
                do for [i = 1:groups(about)] {
                    set xtics add (field(rows, 2 * i - 1) i - 1)
                    if (field(rows, 2 * i) eq "0") { set label 1 + i "not run" at i - 1, graph 0.05 left rotate by 90 textcolor rgb "#808080" font ",12" }
                }
            }
            set ytics nomirror autofreq
            if (is_log(k)) {  # from the least to the largest value, whatever the decade
                ends = system(sprintf("tail -n +2 '%s' | cut -d , -f %s | tr , '\\n' | grep . | sort -g | sed -n '1p;$p'", table(name), list(drawn_columns)))
                set ytics ()
                decades = log10(word(ends, words(ends)) / word(ends, 1))
                do for [e = -2:15] {
                    do for [m in decades < 1 ? "1 1.5 2 3 4 5 7" : decades < 4 ? "1 2 5" : "1"] {
                        set ytics add (e > 3 ? sprintf("10^{%d}", e) : sprintf("%g", m * 10 ** e) m * 10 ** e)
                    }
                }
                set yrange [0.93 * word(ends, 1):(ratio ? 1.25 : 1.08) * word(ends, words(ends))]
            }
            if (ratio && beside) {
                plot @lines, table(name) using @beside_it:(strlen(stringcolumn(ratio)) ? stringcolumn(ratio) . " %" : "") \
                         with labels offset 0,0.9 font ",9" textcolor rgb "#606060" notitle
            } else {
                plot @lines
            }
        }
    }
    unset multiplot
    unset output
}
