# bars - groups of bars from tables, a panel for each. Called by paper_*.gp, which set figure, heading, ytitle and, for
# each panel k, panel[k] (its table SRC/tables/NAME.csv: the first column names the groups, each other one is a bar that
# its head names) and title_of[k]; optionally without (heads that are not drawn, between bars), ends (the heads of a
# bar's interval are its own and " low", " high"), logarithmic (y). What is not there is "not run".
if (!exists("without")) without = ""
if (!exists("ends")) ends = 0
if (!exists("logarithmic")) logarithmic = 0
is_end(h) = ends && (h[strlen(h) - 3:*] eq " low" || h[strlen(h) - 4:*] eq " high")
drawn(about, i) = strstrt("|" . without . "|", "|" . head(about, i) . "|") == 0 && !is_end(head(about, i))
bars_of(about) = (_s = "", sum [_i = 2:columns(about)] (_s = _s . (drawn(about, _i) ? " " . _i : ""), 0), _s)
at(list, c) = (_p = 0, sum [_i = 1:words(list)] (word(list, _i) eq c ? (_p = _i) : 0), _p)
num(c) = c eq "" ? 2 : c + 0
# A bar has the same colour in every panel and figure.
known = "|heads joint|heads within layers|heads within layers (task mean)|neurons joint|neurons within layers|" . \
        "neurons within layers (task mean)|neurons joint (targets per layer)|per layer (published formula)|" . \
        "early (published formula)|per layer (as built here)|early (as built here)"
shades = "#1b6ca8 #7fb2dc #d5d9e0 #e07b00 #f3c08a #ece5d8 #f3c08a #e07b00 #1b6ca8 #f3c08a #7fb2dc"
palette_of = "#1b6ca8 #7fb2dc #e07b00 #f3c08a #2e8b57 #a9d3b8 #7d4bb0 #d5d9e0"
at_known(h) = (_k = 0, sum [_i = 1:words(shades)] (field(known, _i) eq h ? (_k = _i) : 0), _k)
shade(h, i) = at_known(h) ? word(shades, at_known(h)) : word(palette_of, (i - 1) % 8 + 1)
place_of(list, c) = column(0) + (at(list, c) - 0.5 * (words(list) + 1)) * 0.8 / words(list)
# a column by its head, or nothing
of(about, h) = (_f = 0, sum [_i = 1:columns(about)] (head(about, _i) eq h ? (_f = _i) : 0), _f ? column(_f) : NaN)
end(c, which) = of(about, head(about, num(c)) . which)
bar = "(place_of(list, c)):(column(num(c)))"
n = |panel|
set style fill solid 1 noborder
unset grid
set grid ytics
if (logarithmic) { set logscale y; set format y "10^{%T}" } else { set yrange [0:*] }
do for [ext in "png svg"] {
    eval terminal(ext, 640 * n, 600)
    set output dst . "/" . figure . "." . ext
    set multiplot layout 1,n title heading noenhanced offset 0,-0.2
    do for [k = 1:n] {
        name = panel[k]
        unset label
        set lmargin at screen (k - 0.87) / n; set rmargin at screen (k - 0.03) / n
        set tmargin at screen 0.86; set bmargin at screen 0.34
        set key at screen (k - 0.46) / n, screen 0.2 center top vertical maxrows 4 noenhanced samplen 1 spacing 1.15 font ",11" width -1
        set title title_of[k] offset 0,-0.6 noenhanced
        set ylabel ytitle offset 0.6,0
        about = describe(name)
        list = bars_of(about)
        if (words(list) == 0) {
            set label 1 "not run" at graph 0.5,0.5 center textcolor rgb "#808080" font ",16"
            unset xtics; unset ytics
            plot [3:4] [3:4] NaN notitle
            set ytics nomirror
        } else {
            set xtics () rotate by 30 right noenhanced scale 0
            labels = system(sprintf("tail -n +2 '%s' | cut -d , -f 1 | sed 's/^/|/' | tr -d '\\n'", table(name)))
            do for [i = 1:groups(about)] { set xtics add (field(labels, i) i - 1) }
            set boxwidth 0.8 / words(list) * 0.92
            set xrange [-0.6:groups(about) - 0.4]
            if (!ends) {
                plot for [c in list] table(name) using @bar with boxes linecolor rgb shade(head(about, num(c)), at(list, c)) title head(about, num(c))
            } else {
                plot for [c in list] table(name) using @bar with boxes linecolor rgb shade(head(about, num(c)), at(list, c)) title head(about, num(c)), \
                     for [c in list] table(name) using (place_of(list, c)):(end(c, " low")):(0):(end(c, " high") - end(c, " low")) \
                     with vectors heads size screen 0.004,90 linecolor rgb "#303030" linewidth 1.2 notitle
            }
        }
    }
    unset multiplot
    unset output
}
