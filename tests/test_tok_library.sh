#!/bin/sh
# test_tok_library - the ids of tokenizer.json in 20 forms on more than 3,000 strings against those of the `tokenizers`
# library (tests/golden/make_tok_json.py). PYTHON: an interpreter that has it.
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import tokenizers' 2>/dev/null || { echo "SKIP: $PYTHON has no tokenizers (set PYTHON)"; exit 77; }
"$PYTHON" tests/golden/make_tok_json.py "$(dirname "$(readlink -f "${BIN:-bin}")")/tests/test_tok_json"
