# contextual_designs - designs of predictors, static and random masks, of one scope and criterion. Reads SRC/sweep.csv.
load "plots/common.gp"
if (!exists("scope")) scope = "global"
figure = "contextual_designs"; heading = "Designs of predictors, " . scope . " masks"
# static masks of a task by its own scores and by those of all tasks; a text has only the latter
curves = "shadow shadow_global same ahead lowrank sequence static_own static random"
where(c) = c eq "random" ? "f[\"mask\"] == \"random\"" : c eq "static" ? "f[\"mask\"] == \"static\" && f[\"aggregate\"] == \"all\"" \
         : c eq "static_own" ? "f[\"mask\"] == \"static\" && (f[\"aggregate\"] == \"task\" || f[\"task\"] == \"wikitext\")" \
         : c eq "same" ? "f[\"design\"] == \"dejavu\" && f[\"lag\"] == 0" : c eq "ahead" ? "f[\"design\"] == \"dejavu\" && f[\"lag\"] == 1" \
         : c eq "lowrank" ? "f[\"design\"] == \"dejavu-lowrank\"" : c eq "sequence" ? "f[\"design\"] == \"sequence\"" \
         : "f[\"design\"] == \"shadow\" && f[\"target\"] == \"" . (c eq "shadow" ? "layer" : "global") . "\""
which(c) = sprintf("f[\"scope\"] == \"%s\" && %s && (f[\"mask\"] == \"random\" || f[\"criterion\"] == \"%s\")", scope, where(c), criterion)
label(c) = c eq "shadow" ? "early (targets per layer)" : c eq "shadow_global" ? "early (global targets)" : c eq "same" ? "per layer, same layer" : c eq "ahead" ? "per layer, look-ahead" \
         : c eq "lowrank" ? "low-rank classifiers" : c eq "sequence" ? "full sequence" : c eq "static_own" ? "static, own scores" : c eq "static" ? "static, all tasks" : c
shade(c) = word("#1b6ca8 #7fb2dc #e07b00 #c0392b #8c5a3c #7d4bb0 #145c38 #2e8b57 #9aa0a6", place_of(c))
place_of(c) = (_q = 1, sum [_j = 1:words(curves)] (word(curves, _j) eq c ? (_q = _j) : 0), _q)
stroke(c) = c[1:6] eq "static" || c eq "random" ? 2 : 1
point(c) = word("5 4 7 9 11 13 7 6 2", place_of(c)) + 0
load "plots/contextual.gp"
