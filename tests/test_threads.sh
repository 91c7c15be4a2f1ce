#!/bin/sh
# test_threads - how many threads a program takes, and how they wait: no more than the affinity mask allows, unless told
# so; a short wait before they sleep, unless the user chose another; and programs that ours start inherit nothing of it.
. tests/expect.sh
unset OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_SPINCOUNT
# sweep THREADS COMMAND... : what a sweep under that command says of its threads
sweep() {
    more=$1
    shift
    rm -f "$tmp/s.csv"
    "$@" "$bin/sweep" $more --model tests/golden/llama/llama --data data/world --tasks copa --limit 1 --mask none --over-long cut --out "$tmp/s.csv" \
        >"$tmp/o" 2>"$tmp/e" || fail "sweep: $(tail -n 1 "$tmp/e")"
}
if command -v taskset >/dev/null; then
    one=$(taskset -cp $$ | sed 's/.*: *//; s/[-,].*//')
    sweep "" taskset -c "$one"
    grep -q '[ ,]1 threads' "$tmp/s.csv" || fail "on one core: $(grep threads "$tmp/s.csv")"
    sweep "--threads 3" taskset -c "$one"
    grep -q '[ ,]3 threads' "$tmp/s.csv" || fail "--threads 3: $(grep threads "$tmp/s.csv")"
    sweep "" env OMP_NUM_THREADS=5 taskset -c "$one"
    grep -q '[ ,]5 threads' "$tmp/s.csv" || fail "OMP_NUM_THREADS=5: $(grep threads "$tmp/s.csv")"
else
    echo "no taskset: the affinity mask is not tried"
fi

# what GCC's OpenMP says of its settings, the last time it begins
spins() {
    env OMP_DISPLAY_ENV=VERBOSE "$@" "$bin/generate" --model tests/golden/llama/llama --prompt a --tokens 1 2>&1 >/dev/null | sed -n "s/.*GOMP_SPINCOUNT = '\(.*\)'/\1/p" | tail -n 1
}
if [ -n "$(spins)" ]; then
    [ "$(spins)" = 4000 ] || fail "threads spin $(spins) times"
    [ "$(spins GOMP_SPINCOUNT=77)" = 77 ] || fail "GOMP_SPINCOUNT of the user is not kept"
    [ "$(spins OMP_WAIT_POLICY=passive)" = 0 ] || fail "OMP_WAIT_POLICY of the user is not kept"
else
    echo "another OpenMP than GCC's: waiting is not tried"
fi

# a child gets the user's environment
cat >"$tmp/peer" <<PEER
#!/bin/sh
env >"$tmp/env"
exit 1
PEER
chmod +x "$tmp/peer"
GOMP_SPINCOUNT=88 "$bin/bench_train" --shape 1x2x16x32x100x64 --steps 1 --rounds 1 --peer "$tmp/peer" >"$tmp/o" 2>&1
grep -qx GOMP_SPINCOUNT=88 "$tmp/env" || fail "a child loses GOMP_SPINCOUNT: $(cat "$tmp/o")"
"$bin/bench_train" --shape 1x2x16x32x100x64 --steps 1 --rounds 1 --peer "$tmp/peer" >"$tmp/o" 2>&1
grep -q 'GOMP_SPINCOUNT\|KIT_BEGUN\|OPENBLAS_CORETYPE' "$tmp/env" && fail "a child inherits $(grep 'GOMP_\|KIT_\|OPENBLAS' "$tmp/env")"
exit $bad
