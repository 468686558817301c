#!/bin/bash
# Copies one tree with rsync, fpsync and grange sync local, in turns on the same machine, and prints times and ratios.
#
# usage: bench/sync.sh [FILES [ROUNDS]]      default: 200000 files of 0 to 8 KiB, 3 rounds
#
# Needs rsync and fpsync (installed when missing, with apt-get, as root) and target/release/grange (built when
# missing; another binary: GRANGE=path). Works in a directory of its own below ${TMPDIR:-/tmp} and removes it.
# Each figure is the median of the rounds; the tools take turns within a round, so that other work on the machine
# meets them alike. CPU is user and system time of all processes.
set -euo pipefail
cd "$(dirname "$0")/.."
files=${1:-200000} rounds=${2:-3}
command -v rsync >/dev/null && command -v fpsync >/dev/null ||
    { apt-get update -qq && apt-get install -y -qq rsync fpart >/dev/null; }
grange=${GRANGE:-target/release/grange}
[ -x "$grange" ] || cargo build --release -p grange
grange=$(realpath "$grange")
work=$(mktemp -d "${TMPDIR:-/tmp}/sync-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 bench/sync_tree.py "$work/source" "$files"

run() { # TOOL DESTINATION
    case $1 in
    rsync) rsync -aHAX --delete --numeric-ids "$work/source/" "$2/" ;;
    fpsync) fpsync -n "$(nproc)" -f 4000 -t "$work/fpsync" -o '-lptgoDAX --numeric-ids' "$work/source/" "$2/" >/dev/null ;;
    grange) "$grange" sync local --delete "$work/source" "$2" >/dev/null 2>&1 ;;
    esac
}
timed() { # CASE TOOL DESTINATION
    local TIMEFORMAT='%R %U %S'
    { time run "$2" "$3" 2>/dev/null; } 2>&1 | awk -v c="$1" -v t="$2" '{print c, t, $1, $2 + $3}' >>"$work/times"
}
change() { # ROUND: rewrites one file in a hundred
    find "$work/source" -name "*$1[05].dat" | awk 'NR % 20 == 0' |
        while IFS= read -r file; do printf 'round %s' "$1" >>"$file"; done
}

for ((round = 0; round < rounds; round++)); do
    for tool in rsync fpsync grange; do
        rm -rf "$work/$tool" && mkdir "$work/$tool" && sync
        timed "first copy" $tool "$work/$tool"
        sync
    done
    for tool in rsync fpsync grange; do timed "no change" $tool "$work/$tool"; done
    change "$round"
    for tool in rsync fpsync grange; do timed "1 % changed" $tool "$work/$tool"; done
    left=$(rsync -naHAXi --delete "$work/source/" "$work/grange/" | wc -l)
    [ "$left" = 0 ] || { echo "grange left $left differences" >&2; exit 1; }
done

python3 - "$work/times" <<'END'
import collections, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1]):
    words = line.split()
    times[" ".join(words[:-3]), words[-3]].append((float(words[-2]), float(words[-1])))
median = lambda key, at: statistics.median(pair[at] for pair in times[key])
print(f"{'':14}" + "".join(f"{tool + ' s (CPU)':>18}" for tool in ("rsync", "fpsync", "grange")) + "   rsync/grange   fpsync/grange")
for case in dict.fromkeys(case for case, _ in times):
    cells = "".join(f"{median((case, t), 0):10.2f} ({median((case, t), 1):5.2f})" for t in ("rsync", "fpsync", "grange"))
    ratio = lambda tool: median((case, tool), 0) / median((case, "grange"), 0)
    print(f"{case:14}{cells}{ratio('rsync'):15.1f}{ratio('fpsync'):16.1f}")
END
