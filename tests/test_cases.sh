#!/bin/sh
# test_cases - inputs of public bug reports, ../shared/cases, each with a script that ends with 0 where it is as it
# should be. Those named here concern files of checkpoints and tokenizers, descriptors, launchers, pipes and names;
# CASES names others.
cases=../shared/cases bad=0
[ -d $cases ] || { echo "SKIP: no $cases"; exit 77; }
BIN=$(readlink -f "${BIN:-bin}")
export BIN
for n in ${CASES:-01 02 03 04 05 07 08 10 12 13 15 16 17 21 22 23}; do
    for run in "$cases/$n"-*/run.sh; do
        bash "$run" >/tmp/case.$$ 2>&1 || { echo "FAIL: $run: $(tail -n 3 /tmp/case.$$)"; bad=1; }
    done
done
# 09's script looks for a comma after the last field that it has cut out, so it cannot see the 1 that it wants
got=$("$BIN/sweep" --model $cases/base/model --data $cases/09-*/data --tasks arc_easy --mask none --threads 1 2>/dev/null |
    sed -n 's/^sound,model,arc_easy,test,\(acc_[a-z]*,[0-9.]*\),.*/\1/p' | tr '\n' ' ')
[ "$got" = "acc_bytes,0 acc_norm,1 " ] || { echo "FAIL: characters and bytes of 09: $got"; bad=1; }
rm -f /tmp/case.$$
exit $bad
