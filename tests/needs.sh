# needs.sh - what a test may need of the machine, and how it waits for a process at work; sourced by tests. Who sources
# it has set bin. Sets python: Debian's, for which `make install` gets h5py, or where that has none the one that PYTHON
# names.
needs_h5py() {
    for python in /usr/bin/python3 "${PYTHON:-python3}"; do
        "$python" -c 'import h5py, numpy' 2>/dev/null && return
    done
    echo "SKIP $(basename "$0" .sh): neither /usr/bin/python3 nor ${PYTHON:-python3} has h5py and numpy (set PYTHON)"
    exit 77
}

# CUDA on the CPU, unless KIT_CUDA names a library; has_cuda WHAT says what is skipped where there is none.
has_cuda() {
    : "${KIT_CUDA:=$(dirname "$(readlink -f "$bin")")/shim/libkit_cuda.so}"
    export KIT_CUDA
    [ -e "$KIT_CUDA" ] || { echo "SKIP $1: $KIT_CUDA is not built: CUDA's headers are not there"; return 1; }
}
needs_cuda() { has_cuda "$(basename "$0" .sh)" || exit 77; }
# Faults and devices that only CUDA on the CPU can play; it has as many devices as it is told.
needs_played_cuda() {
    needs_cuda
    CU_FAKE_DEVICES=13 "$bin/generate" --device cuda:15 --model model/default --prompt a 2>&1 | grep -q 'this machine has 13' && return
    echo "SKIP $(basename "$0" .sh): $KIT_CUDA is not on CUDA on the CPU"
    exit 77
}

# await PID COMMAND... : until COMMAND succeeds. 1: PID ended before.
await() {
    awaited=$1
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 "$awaited" 2>/dev/null || return 1
        sleep 0.02
    done
}
# kill_at_work PID COMMAND... : kills PID once COMMAND succeeds, or finds it gone.
kill_at_work() {
    await "$@"
    kill -9 "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# rows FILE: of a file of results. grown FILE N: it has more than N.
rows() { grep -v '^#' "$1"; }
grown() { [ "$(rows "$1" 2>/dev/null | wc -l)" -gt "$2" ]; }
