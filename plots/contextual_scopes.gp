# contextual_scopes - masks that compare units within each layer, over all layers, or both: static ones and those of the
# early predictor. Reads SRC/sweep.csv.
load "plots/common.gp"
if (!exists("target")) target = "layer"
figure = "contextual_scopes"; heading = "Local, global and hybrid masks, static and contextual (early predictor, targets per " . target . ")"
curves = "static:local static:global static:hybrid shadow:local shadow:global shadow:hybrid"
kind(c) = c[1:6]
scope(c) = c[8:*]
which(c) = sprintf("f[\"criterion\"] == \"%s\" && f[\"scope\"] == \"%s\" && %s", criterion, scope(c), \
                   kind(c) eq "static" ? "f[\"mask\"] == \"static\" && f[\"aggregate\"] == \"all\"" : "f[\"design\"] == \"shadow\" && f[\"target\"] == \"" . target . "\"")
label(c) = (kind(c) eq "static" ? "static (all tasks), " : "contextual, ") . scope(c)
shade(c) = scope(c) eq "local" ? "#1b6ca8" : scope(c) eq "global" ? "#e07b00" : "#2e8b57"
stroke(c) = kind(c) eq "static" ? 2 : 1
point(c) = (scope(c) eq "local" ? 4 : scope(c) eq "global" ? 6 : 8) + (kind(c) eq "static" ? 0 : 1)
load "plots/contextual.gp"
