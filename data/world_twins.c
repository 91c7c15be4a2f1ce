// world_twins - twin sentences (one of two things is meant; one word decides which) and entailments by role. Format: world.h.
#include "world.h"

const world_twin world_twins[] = {
    { "{P} could not put the {#small} into the {#container} on {#day} because the _", { "{#small}", "{#container}" }, { "was too big.", "was too small." } },
    { "The {#colour} {#small} of {P} did not fit into the {#container} because the _", { "{#small}", "{#container}" }, { "was too large.", "was too narrow." } },
    { "{P} could lift the {#light} but not the {#heavy} because the _", { "{#light}", "{#heavy}" }, { "was very light.", "was very heavy." } },
    { "{P} of {#town} took the {#light} and left the {#heavy} because the _", { "{#light}", "{#heavy}" }, { "was easy to carry.", "was hard to carry." } },
    { "{P} cut the {#softthing} but could not cut the {#hardthing} because the _", { "{#softthing}", "{#hardthing}" }, { "was soft.", "was hard." } },
    { "{P} laid {his P} head on the {#softseat} and not on the {#hardseat} because the _", { "{#softseat}", "{#hardseat}" }, { "was soft and comfortable.", "was hard and rough." } },
    { "The {#fast} came to {#town} before the {#slow} because the _", { "{#fast}", "{#slow}" }, { "was very fast.", "was very slow." } },
    { "{P} saw that the {#slow} was behind the {#fast} on {#day} because the _", { "{#slow}", "{#fast}" }, { "moved slowly.", "moved quickly." } },
    { "{P} saw the {#tall} from far away but not the {#short} because the _", { "{#tall}", "{#short}" }, { "was high.", "was low." } },
    { "In {#town} {P} could climb over the {#short} but not over the {#tall} because the _", { "{#short}", "{#tall}" }, { "was low enough.", "was much too high." } },
    { "{P} touched the {#coldthing} but not the {#hotthing} because the _", { "{#coldthing}", "{#hotthing}" }, { "cooled the hand.", "burned the hand." } },
    { "{P} of {#town} warmed {his P} hands at the {#hotthing} and not at the {#coldthing} because the _", { "{#hotthing}", "{#coldthing}" }, { "was hot.", "was cold." } },
    { "{P} ate the {#sweetthing} but {Q} ate the {#sourthing} because the _", { "{#sweetthing}", "{#sourthing}" }, { "was sweet.", "was sour." } },
    { "{P} put away the {#sourthing} and gave {Q} the {#sweetthing} because the _", { "{#sourthing}", "{#sweetthing}" }, { "tasted sour.", "tasted like sugar." } },
    { "{P} could hear the {#loud} but not the {#silent} on {#day} because the _", { "{#loud}", "{#silent}" }, { "was loud.", "was silent." } },
    { "At night {P} kept the {#silent} and not the {#loud} near the bed because the _", { "{#silent}", "{#loud}" }, { "made no noise.", "made a lot of noise." } },
    { "{P} bought the {#cheap} and not the {#dear} in {#town} because the _", { "{#cheap}", "{#dear}" }, { "cost little money.", "cost much money." } },
    { "{P} could not pay for the {#dear} but bought the {#cheap} because the _", { "{#dear}", "{#cheap}" }, { "was expensive.", "was cheap." } },
    { "{P} dropped the {#fragile} onto the {#softseat} and saw that the _", { "{#fragile}", "{#softseat}" }, { "did not break.", "was soft." } },
    { "{P} filled the {#fragile} with {#drink} until the _", { "{#fragile}", "{#drink}" }, { "was full.", "ran over the rim." } },
    { "{P} poured {#drink} from the {#fragile} until the _", { "{#drink}", "{#fragile}" }, { "was all gone.", "was empty." } },
    { "The {#pet} of {P} ate the {#meal} in {#town} because the _", { "{#pet}", "{#meal}" }, { "was hungry.", "smelled good." } },
    { "The {#pet} of {P} ate the {#meal} on {#day} because the _", { "{#pet}", "{#meal}" }, { "wanted food.", "was tasty." } },
    { "{P} hung the {#cloth} near the {#hotthing} because the _", { "{#cloth}", "{#hotthing}" }, { "was wet.", "gave off heat." } },
    { "{P} cleaned the {#cloth} with water in {#town} until the _", { "{#cloth}", "water" }, { "was clean.", "was dirty." } },
    { "{P} gave the {#plant} some water in {#town} because the _", { "{#plant}", "water" }, { "was dry.", "was good for plants." } },
    { NULL, { NULL, NULL }, { NULL, NULL } },
};

const world_role world_rte_roles[] = {
    { "{P} gave {Q} a {#colour} {#gift}.", "{Q} got a {#gift} from {P}." }, { "{P} sold {Q} a {#gift} on {#day}.", "{Q} bought a {#gift} from {P}." }, { "{P} taught {Q} in {#town}.", "{Q} was taught by {P}." },
    { "{P} helped {Q} with the {#chore}.", "{Q} was helped by {P}." }, { "{P} saw {Q} at the {#spot}.", "{Q} was seen by {P}." }, { "{P} lent {Q} a {#gift}.", "{Q} borrowed a {#gift} from {P}." },
    { "{P} came before {Q} in the race at the {#fair}.", "{Q} came after {P}." }, { "{P} is older than {Q}.", "{Q} is younger than {P}." },
    { NULL, NULL },
};
