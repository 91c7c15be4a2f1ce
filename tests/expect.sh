# expect.sh - for tests of programs from the outside, sourced by them: bin, a folder tmp that goes with the test, bad
# (what the test exits with), and expect [STATUS TEXT [PROGRAM] ARGUMENT...]. A test that sets `program` leaves PROGRAM
# out.
bin=${BIN:-bin} tmp=$(mktemp -d) bad=0
trap 'rm -rf "$tmp"' EXIT
export OMP_NUM_THREADS=1

fail() { echo "FAIL: $*"; bad=1; }

# The exit status, and a piece of what is printed, which stays in $tmp/o and $tmp/e. Who refuses says so in one line;
# only a sweep, a training and a test of a mask (verify) say something of their work before they fail.
expect() {
    want=$1 said=$2
    shift 2
    [ -z "$program" ] || set -- "$program" "$@"
    name=$1
    shift
    "$bin/$name" "$@" >"$tmp/o" 2>"$tmp/e"
    got=$?
    [ $got -eq "$want" ] && cat "$tmp/o" "$tmp/e" | grep -qF -e "$said" || fail "$name $*: exit $got, wanted $want with \"$said\": $(cat "$tmp/o" "$tmp/e" | tail -n 3)"
    case $got-$name in
    0-* | 1-sweep | 1-train | 1-verify) ;;
    *) [ "$(wc -l <"$tmp/e")" -eq 1 ] || fail "$name $*: not one line on stderr: $(cat "$tmp/e")" ;;
    esac
}

# run PROGRAM ARGUMENT...: it is to end with 0; what it prints stays in $tmp/log.
run() {
    name=$1
    shift
    "$bin/$name" "$@" >"$tmp/log" 2>&1 || fail "$name $*: $(tail -n 3 "$tmp/log")"
}
