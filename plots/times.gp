# times - ms per token of the dense model and of masks over one column of SRC/bench.csv. Called by time_*.gp, which set
# along (the column), figure, xtitle, logarithmic and fixed, the columns that have one value in the figure (model,
# prompt, tokens, sparsity).
times = src . "/bench.csv"
if (!present(times)) { print missing(times); exit }
if (!exists("weights")) weights = word(distinct(times, "weights", "f[\"engine\"] == \"own\"") . " fp32", 1)
if (!exists("sparsity")) sparsity = "50"
# The values of the other columns: as given, else those that the figure has the most points for.
token_rows = sprintf("f[\"metric\"] == \"token_ms\" && f[\"engine\"] == \"own\" && f[\"weights\"] == \"%s\" && f[\"batch\"] == 1", weights)
key = "\"\""
do for [c in fixed] { if (c ne "sparsity") { key = key . sprintf(" f[\"%s\"] \" \"", c); if (exists(c)) { token_rows = token_rows . sprintf(" && f[\"%s\"] == \"%s\"", c, value(c)) } } }
most = system(sprintf("awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s) {k = %s; if (!seen[k, f[\"%s\"]]++ && ++count[k] > best) {best = count[k]; print k}}' '%s' | tail -1", token_rows, key, along, times))
at = 1
do for [c in fixed] { if (c ne "sparsity") { if (!exists(c)) { eval(sprintf("%s = \"%s\"", c, word(most . " - - -", at))) }; at = at + 1 } }
condition = token_rows
do for [c in fixed] { condition = condition . (c eq "sparsity" ? sprintf(" && (f[\"mask\"] == \"none\" || f[\"sparsity\"] == \"%s\")", sparsity) : sprintf(" && f[\"%s\"] == \"%s\"", c, value(c))) }

# A line for each mask, predictor and refresh that has two points or more; points(line): x, time, p10, p90 in the order
# of x, of the row with the most rounds.
name = "(f[\"design\"] == \"\" ? f[\"mask\"] == \"none\" ? \"dense\" : f[\"mask\"] : f[\"design\"] \"_\" f[\"hidden\"] (f[\"refresh\"] == 0 ? \"_once\" : \"_every_\" f[\"refresh\"]))"
read(what) = sprintf("awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s) {k = %s; %s}' '%s'", condition, name, what, times)
lines = system(read(sprintf("if (!seen[k, f[\"%s\"]]++ && ++count[k] == 2) print k", along)))
points(line) = read(sprintf("if (k == \"%s\") print f[\"%s\"], f[\"amortised\"], f[\"p10\"], f[\"p90\"], f[\"rounds\"]", line, along)) . " | sort -k 1,1g -k 5,5gr | awk '!seen[$1]++'"
if (words(lines) == 0) { print sprintf("%s: no times over %s; this figure is left out", times, along); exit }
# dense does not depend on the sparsity: a level
dense = along eq "sparsity" ? system(points("dense")) : ""
level = words(dense) ? word(dense, 2) + 0 : NaN
curves = ""
do for [line in lines] { if (!(along eq "sparsity" && line eq "dense")) { curves = curves . " " . line } }
shade(line) = line eq "dense" ? "#505050" : line eq "static" ? "#2e8b57" : line[1:6] eq "shadow" ? "#1b6ca8" : line[1:6] eq "dejavu" ? "#e07b00" : line eq "oracle" ? "#7d4bb0" : "#6b7280"
label(line) = system(sprintf("echo '%s' | tr _ ' '", line))

set datafile separator whitespace
unset datafile columnheaders
set key outside right center spacing 1.25 samplen 2.5
set xlabel xtitle offset 0,0.3
set ylabel "ms per token"
heading = along eq "sparsity" ? sprintf("%s, prompt %s, %s tokens", model, prompt, tokens) : along eq "tokens" ? sprintf("%s, prompt %s, %s %% pruned", model, prompt, sparsity) \
                                                                                              : sprintf("OPT shapes, prompt %s, %s tokens, %s %% pruned", prompt, tokens, sparsity)
set title sprintf("Time of a token: %s\n{/*0.8 %s weights, batch 1; line: mean, the prompt's prediction shared out; bars: 10 to 90 %% of the tokens}", heading, weights) offset 0,-0.4
if (!logarithmic) { set yrange [0:*] }
if (logarithmic) { set logscale xy; set format y "%g" }
do for [ext in "png svg"] {
    eval terminal(ext, 1100, 640)
    set output dst . "/" . figure . "." . ext
    plot level with lines linecolor rgb shade("dense") linewidth 2 dashtype 3 title level == level ? "dense" : "", \
         for [i = 1:words(curves)] "< " . points(word(curves, i)) using 1:2:3:4 with yerrorbars linecolor rgb shade(word(curves, i)) pointtype 0 linewidth 1 notitle, \
         for [i = 1:words(curves)] "< " . points(word(curves, i)) using 1:2 with linespoints linecolor rgb shade(word(curves, i)) linewidth 2 pointtype 3 + i pointsize 0.9 title label(word(curves, i))
    unset output
}
