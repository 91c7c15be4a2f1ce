// world_entail - premises and hypotheses: what was said again, what follows from who did it, what follows from what is known. Format: world.h.
#include "world.h"

const world_entailment world_rte_said[] = {
    { NULL, "#colour", "{P} has {a #colour} {#gift}.", "The {#gift} of {P} is {#colour}." },
    { NULL, "#colour", "{P} painted the {#surface} {#colour} on {#day}.", "The {#surface} is {#colour} now." },
    { NULL, "#colour", "{P} gave {Q} {a #colour} {#gift}.", "The {#gift} was {#colour}." },
    { NULL, "#gift", "{P} gave {Q} {a #colour} {#gift}.", "{Q} got {a #gift}." },
    { NULL, "#gift", "{P} found {a #gift} near the {#spot}.", "There was {a #gift} near the {#spot}." },
    { NULL, "#day", "On {#day} {P} met {Q}.", "{Q} met {P} on {#day}." },
    { NULL, "#day", "{P} came to {#town} on {#day}.", "It was {#day} when {P} came." },
    { NULL, "#spot", "On {#day} {P} met {Q} at the {#spot}.", "{Q} was at the {#spot}." },
    { NULL, "#spot", "{P} walked {#direction} to the {#spot}.", "{P} went to the {#spot}." },
    { NULL, "#town", "{P} and {Q} live in {#town}.", "The house of {Q} is in {#town}." },
    { NULL, "#town", "{P} came from {#town} with {#number} friends.", "{P} had been in {#town}." },
    { NULL, "#direction", "{P} walked {#direction} to the {#spot}.", "The {#spot} is in the {#direction}." },
    { NULL, "#number", "The {#family} of {Q} has {#number} {#pet}s.", "There are {#number} {#pet}s." },
    { NULL, "#number", "After {#number} days {P} came back.", "{P} was away for {#number} days." },
    { NULL, "#drink", "They drank {#drink} and ate {#meal}.", "There was {#drink} to drink." },
    { NULL, "#meal", "They drank {#drink} and ate {#meal}.", "There was {#meal} to eat." },
    { NULL, "#mood", "{P} was {#mood} on {#day}.", "{P} felt {#mood}." },
    { NULL, "#family", "{P} wrote to {his P} {#family}.", "The {#family} of {P} got a letter." },
    { NULL, "#pet", "{P} has a {#pet} and {#number} hens.", "There is a {#pet} in the house of {P}." },
    { NULL, "#chore", "{P} helped {Q} with the {#chore}.", "{Q} was busy with the {#chore}." },
    { NULL, "#room", "{P} found the {#gift} in the {#room}.", "The {#gift} was in the {#room}." },
    { NULL, "PR", "{P} bought {a #colour} {#gift}.", "The {#gift} belongs to {P}." },
    { NULL, "PR", "{P} met {Q} at the {#spot}.", "{Q} saw {P} there." },
    { NULL, "PR", "{P} lives near the {#spot}.", "The {#spot} is near the house of {P}." },
    { NULL, NULL, NULL, NULL },
};

const world_entailment world_rte_roles[] = {
    { NULL, "PQ", "{P} gave {Q} {a #colour} {#gift}.", "{Q} got {a #gift} from {P}." },
    { NULL, "PQ", "{P} sold {Q} {a #gift} on {#day}.", "{Q} bought {a #gift} from {P}." },
    { NULL, "PQ", "{P} taught {Q} in {#town}.", "{Q} was taught by {P}." },
    { NULL, "PQ", "{P} helped {Q} with the {#chore}.", "{Q} was helped by {P}." },
    { NULL, "PQ", "{P} saw {Q} at the {#spot}.", "{Q} was seen by {P}." },
    { NULL, "PQ", "{P} lent {Q} {a #gift}.", "{Q} borrowed {a #gift} from {P}." },
    { NULL, "PQ", "{P} came before {Q} in the race at the {#fair}.", "{Q} came after {P}." },
    { NULL, "PQ", "{P} is older than {Q}.", "{Q} is younger than {P}." },
    { NULL, NULL, NULL, NULL },
};

const world_entailment world_rte_known[] = {
    { "animal", "class", "{P} saw {a x} near the {#spot}.", "{P} saw {a y.class}." },
    { "animal", "class", "On {#day} {P} met {a x}.", "The animal that {P} met is {a y.class}." },
    { "animal", "cover", "{P} has {a #colour} {x}.", "The animal of {P} has {y.cover}." },
    { "food", "kind", "{P} bought {a x} on {#day}.", "{P} bought this: {y.kind}." },
    { "food", "taste", "{P} had {a x} in {#town}.", "{P} had something {y.taste}." },
    { "food", "colour", "{P} painted a picture of {a x}.", "In the picture is something {y.colour}." },
    { "job", "place", "The {#family} of {P} is {a x}.", "The {#family} of {P} works in a {y.place}." },
    { "job", "does", "{P} of {#town} is {a x}.", "{P} {y.does}." },
    { "thing", "material", "{P} gave {Q} {a #colour} {x}.", "{Q} got something made of {y.material}." },
    { "thing", "kind", "{P} sold {a x} to {Q}.", "{Q} bought this: {y.kind}." },
    { NULL, NULL, NULL, NULL },
};
