#!/bin/sh
# fuzz.sh DIR RUNS SEED [NAME ...] - runs the fuzz targets (all, if none is named) that were built in DIR on RUNS inputs
# each, from the seed files that its source names in a line "// seeds: GLOB ...", and prints the machine and one line of
# figures each. Exit 1 if one found something. An input that takes 1000 seconds by the clock counts as found; so long,
# because the machine may be busy otherwise. fuzz.log is the output of the last full run.
# What an input frees stays forbidden until 16 MB more are freed: more than the next inputs free, and it stays in the cache.
export ASAN_OPTIONS="${ASAN_OPTIONS:-malloc_context_size=4:quarantine_size_mb=16}"
dir=$1 runs=$2 seed=$3 status=0
shift 3
[ $# -gt 0 ] || set -- $(cd tests && ls fuzz_*.c | sed 's/\.c$//')
echo "$(date -u +%Y-%m-%d), $(git describe --always 2>/dev/null), $(clang --version | head -n 1), $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
for name; do
    source=tests/$name.c
    rm -rf "$dir/corpus/$name"
    mkdir -p "$dir/corpus/$name"
    for file in $(sed -n 's,^// seeds: ,,p' "$source"); do  # unquoted: the globs expand here
        [ -f "$file" ] && cp "$file" "$dir/corpus/$name/$(echo "$file" | tr / _)"
    done
    seeds=$(ls "$dir/corpus/$name" | wc -l)
    start=$(date +%s)
    "$dir/$name" -runs="$runs" -seed="$seed" -timeout=1000 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$dir/$name-" \
        "$dir/corpus/$name" >"$dir/$name.log" 2>&1
    code=$?
    units=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
    echo "$name: seed $seed, $seeds seed files, ${units:-0} inputs, $(($(date +%s) - start)) s, exit $code"
    if [ $code -ne 0 ]; then
        status=1
        tail -n 25 "$dir/$name.log"
    fi
done
exit $status
