#!/bin/sh
# suite.sh FOLDER JOBS TEST... - runs tests, JOBS at a time, in the order given (the longest first leave no core idle at
# the end). Exit 0 of a test: it passed; 77: it was skipped and says why; anything else: it failed. Prints a line for
# each with its seconds, elapsed and of all cores, and the end of what a failed one said; FOLDER/NAME.log has all of it.
# Exit 1 where one failed.
set -u

# one FOLDER TEST: runs it, reports it, and adds "STATUS NAME SECONDS CPU-SECONDS" to FOLDER/results.
if [ "$1" = one ]; then
    folder=$2 test=$3 name=$(basename "$3")
    log=$folder/$name.log start=$(date +%s)
    "$test" >"$log" 2>&1 </dev/null
    code=$?
    took=$(($(date +%s) - start))
    times >"$log.times"  # the second line: user and system time of what has ended, as 1m2.345s 0m6.789s
    cpu=$(awk 'NR == 2 {split($0, t, /[ms ]+/); printf "%.0f", 60 * (t[1] + t[3]) + t[2] + t[4]}' "$log.times")
    rm "$log.times"
    case $code in
    0) status=PASS ;;
    77) status=SKIP ;;
    *) status=FAIL ;;
    esac
    exec 9>>"$folder/results"
    flock 9  # the lines of two tests do not mix
    echo "$status $name $took $cpu" >&9
    printf '%s %-32s %4d s %4d s of CPU\n' $status "$name" $took "$cpu"
    case $status in
    FAIL) tail -n 25 "$log" ;;
    SKIP) tail -n 1 "$log" ;;
    PASS) grep -h '^SKIP' "$log" ;;
    esac
    exit 0
fi

folder=$1 jobs=$2 began=$(date +%s)
shift 2
# A thread that waits leaves its core to the test beside it; two threads a test, so that tests do not crowd each other
# on large machines.
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
: >"$folder/results"
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 "$0" one "$folder"
echo "the longest:"
sort -k 3,3nr "$folder/results" | head -n 8 | awk '{printf "  %-32s %4d s\n", $2, $3}'
awk -v all=$# -v took=$(($(date +%s) - began)) '
    {n[$1]++; cpu += $4}
    END {
        printf "%d passed, %d failed, %d skipped in %d s (%d s of CPU)\n", n["PASS"], n["FAIL"], n["SKIP"], took, cpu
        if (NR != all) printf "%d tests ended without a result\n", all - NR
        exit n["FAIL"] > 0 || NR != all
    }' "$folder/results"
