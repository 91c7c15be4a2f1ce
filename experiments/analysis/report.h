// report - one self-contained HTML page from tables, pictures and a JSON file:
//
//   {"title": TEXT, "text": [PARAGRAPH, ..], "tables": [JSON file of tables, ..],
//    "run": [{"as": TEXT, "file": FILE, "line": NAME}, ..], "sections": [{"title": TEXT, "items": [ITEM, ..]}, ..]}
//
// run   what the line "# NAME: ..." of a file in IN says, after TEXT: the model, the machine; may be left out
// ITEM  {"name": ID, "title": TEXT, "text": TEXT, "figures": [NAME, ..],
//        "tables": [{"table": NAME, "caption": TEXT}, ..], "reads": [FILE, ..], "published": TEXT, "differs": TEXT};
//       all but name and title may be left out
//       figures   IN/plots/NAME.svg, put into the page
//       tables    of the JSON files (tables.h), computed from their CSV files, so that no number is typed
//       reads     files in IN, whose # lines are shown: the commands that made them, code, model, date
// What is not there is shown as "not run", with the reason.
#pragma once
#include <stdio.h>

// Writes the page of the JSON file for the folder `in`. -1 and err_set: a file that is not as it should be.
int report_write(FILE *f, const char *spec, const char *in);
