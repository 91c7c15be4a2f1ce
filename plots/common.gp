# common - what all figures share: folders, look, colours of the criteria, reading of the result files.
#   gnuplot -e "src='results/demo'; dst='results/demo/plots'" plots/<figure>.gp
if (!exists("src")) src = "results/demo"
if (!exists("dst")) dst = src . "/plots"
if (!exists("mode")) mode = "sound"

set datafile separator ","
set datafile columnheaders
set datafile missing NaN
set encoding utf8
set border 3 linecolor rgb "#606060"
set tics nomirror textcolor rgb "#303030"
set grid linecolor rgb "#e2e2e2" linetype 1 linewidth 1
set key noenhanced Left reverse  # text behind the line, flush left
set format "%g"                # gnuplot's own format has a space in front, which moves the labels off their tics

terminal(ext, w, h) = ext eq "png" ? sprintf("set terminal pngcairo enhanced size %d,%d font 'DejaVu Sans,13' background '#ffffff'", w, h) \
                                   : sprintf("set terminal svg enhanced size %d,%d font 'DejaVu Sans,13' background '#ffffff'", w, h)

# A criterion has the same colour and point in every figure.
names = "plainact l2_norm grad_norm fisher grasp snip jacov epenas nwot random removal wanda flap"
colours = "#1b6ca8 #e07b00 #2e8b57 #c0392b #7d4bb0 #8c5a3c #d45fa0 #6b7280 #9a9d18 #9aa0a6 #111111 #17a2b8 #b5838d"
# Between tics of whole numbers up to n, so that at most some dozen of them are written.
step(n) = n <= 12 ? 1 : n <= 25 ? 2 : n <= 60 ? 5 : n <= 120 ? 10 : 20
place(name) = (_p = 0, sum [_i = 1:words(names)] (word(names, _i) eq name ? (_p = _i) : 0), _p)
colour(name) = place(name) > 0 ? word(colours, place(name)) : "#00a0a0"
mark(name) = place(name) > 0 ? word("5 7 9 11 13 4 6 8 10 2 3 12 15", place(name)) + 0 : 1
dash(name) = name eq "random" ? 2 : name eq "removal" ? 4 : 1

# The distinct values of a column in the order of their first row; "where" is an awk condition on f["column"].
distinct(file, column, where) = system(sprintf("awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s) && f[\"%s\"] != \"\" && !seen[f[\"%s\"]]++ {print f[\"%s\"]}' '%s'", where, column, column, column, file))
# Rows of one curve as a data source without header: x, mean, least and greatest y over the seeds; at sparsity 0 the
# dense rows of the file are taken.
curve(file, where, x, y) = sprintf("< awk -F, '/^#/ {next} !n {n = split($0, h, \",\"); next} {for (i = 1; i <= n; i++) f[h[i]] = $i} (%s) {k = f[\"%s\"]; v = f[\"%s\"] + 0; if (!(k in c) || v < lo[k]) lo[k] = v; if (!(k in c) || v > hi[k]) hi[k] = v; c[k]++; s[k] += v} END {for (k in c) print k \",\" s[k] / c[k] \",\" lo[k] \",\" hi[k]}' '%s' | sort -g", where, x, y, file)
# A name whose underscores are no subscripts.
plain(name) = system(sprintf("echo '%s' | sed 's/_/\\\\_/g'", name))
is(column, value) = stringcolumn(column) eq value
present(file) = system("test -s '" . file . "' && echo 1 || echo 0") + 0
missing(file) = sprintf("%s: not there; this figure is left out", file)

# What a table has: its number of columns, 1 or 0 for each that holds something below its head or not, and "|" before
# each head; one process for all, "" where it is not there. The functions after it read that text.
table(name) = src . "/tables/" . name . ".csv"
describe(name) = present(table(name)) ? system(sprintf("awk -F, 'NR == 1 {n = NF; for (i = 1; i <= n; i++) h = h \"|\" $i; next} {for (i = 1; i <= n; i++) if ($i != \"\") f[i] = 1} END {printf \"%%d %%d\", n, NR - 1; for (i = 1; i <= n; i++) printf \" %%d\", f[i]; print \" \" h}' '%s'", table(name))) : "0 0"
columns(about) = word(about, 1) + 0
groups(about) = word(about, 2) + 0
filled(about, i) = word(about, i + 2) + 0
field(list, i) = (_a = 1, sum [_j = 1:i] (_b = strstrt(list[_a:*], "|"), _a = _a + _b, 0), \
                  _b = strstrt(list[_a:*] . "|", "|"), list[_a:_a + _b - 2])
head(about, i) = field(about, i)
system("mkdir -p '" . dst . "'")
