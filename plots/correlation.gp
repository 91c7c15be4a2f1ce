# correlation - Spearman correlation between the criteria's aggregates over all tasks, heads and neurons. Reads
# SRC/correlation.csv.
load "plots/common.gp"
correlation = src . "/correlation.csv"
if (!present(correlation)) { print missing(correlation); exit }
kinds = distinct(correlation, "units", sprintf("f[\"mode\"] == \"%s\"", mode))
if (words(kinds) == 0) { print correlation . ": no rows of mode " . mode . "; this figure is left out"; exit }
array criteria[words(kinds)]
do for [k = 1:words(kinds)] { criteria[k] = distinct(correlation, "criterion", sprintf("f[\"mode\"] == \"%s\" && f[\"units\"] == \"%s\"", mode, word(kinds, k))) }
at(list, name) = (_a = 0, sum [_i = 1:words(list)] (word(list, _i) eq name ? (_a = _i) : 0), _a)
rho(kind) = is("mode", mode) && is("units", kind) ? column("spearman") : NaN
text(kind) = rho(kind) == rho(kind) ? sprintf("%.2f", abs(rho(kind)) < 0.005 ? 0 : rho(kind)) : ""
set palette defined (-1 "#1b4f8a", -0.5 "#8fb8de", 0 "#f7f7f7", 0.5 "#f0a58f", 1 "#a61c28")
set cbrange [-1:1]
set cbtics 0.5
unset key
unset grid
set tics scale 0 font ",11"
do for [ext in "png svg"] {
    eval terminal(ext, 720 * words(kinds) + 60, 660)
    set output dst . "/correlation." . ext
    set multiplot layout 1,words(kinds) title sprintf("Rank correlation between the criteria, %s definitions", mode)
    do for [k = 1:words(kinds)] {
        kind = word(kinds, k); list = criteria[k]; n = words(list)
        set title kind offset 0,-0.6
        set xrange [0.5:n + 0.5]
        set yrange [n + 0.5:0.5]
        set xtics () rotate by 40 right noenhanced
        set ytics () noenhanced
        do for [i = 1:n] { set xtics add (word(list, i) i); set ytics add (word(list, i) i) }
        plot correlation using (at(list, stringcolumn("with"))):(at(list, stringcolumn("criterion"))):(0.5):(0.5):(rho(kind)) with boxxyerror fillstyle solid 1 noborder fillcolor palette, \
             correlation using (is("units", kind) ? at(list, stringcolumn("with")) : NaN):(at(list, stringcolumn("criterion"))):(text(kind)):(abs(rho(kind)) > 0.7 ? 0xffffff : 0x303030) \
                 with labels font ",9" textcolor rgb variable
    }
    unset multiplot
    unset output
}
