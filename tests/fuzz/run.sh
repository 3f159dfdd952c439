#!/usr/bin/env bash
# Fuzzes the capture cores. Usage: tests/fuzz/run.sh [SECONDS [JOBS]]
# Builds four targets (see build.sh), and gives each a quarter of the seconds, JOBS at a time, from
# the kept corpus and from real captures if there are any (XAI_TRAFFIC_CAPTURES, ../shared/data by
# default). What it works with lies in XAI_TRAFFIC_FUZZ, build/fuzz by default: the growing corpus,
# finds, and figures.tsv with a line for each run. Inputs have LONGEST bytes at most, 4096 by default.
# Exit status 1: something was found.
set -euo pipefail
seconds=${1:-60}
jobs=${2:-1}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${XAI_TRAFFIC_FUZZ:-$root/build/fuzz}
captures=${XAI_TRAFFIC_CAPTURES:-$root/../shared/data}
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
targets=${TARGETS:-core both core_small both_small}
if [ "$("$python" -c "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))")" != 1 ]; then
    echo "this Python has no shared library to embed: fuzzing the C core alone" >&2
    targets=${targets//both_small/} targets=${targets//both/}
fi
export PYTHON=$python SOURCE=${SOURCE:-$root}

mkdir -p "$work/corpus" "$work/finds" "$work/logs"
version=$(cat "$SOURCE"/xai_traffic/capture/native/core*.[ch] "$SOURCE"/xai_traffic/capture/core_numpy/*.py \
    "$here"/*.[ch] "$here"/*.py "$here"/*.sh | sha256sum | head -c 12)
if [ "$(cat "$work/bin/version" 2> /dev/null)" != "$version" ]; then
    # shellcheck disable=SC2086
    "$here/build.sh" "$work/bin" $targets
    echo "$version" > "$work/bin/version"
fi
if [ -d "$captures" ] && [ ! -d "$work/seeds" ]; then
    for set in hostile protocols; do
        PYTHONPATH=$SOURCE:$here/.. "$python" -m fuzz.seeds "$captures/$set" "$work/seeds"
    done
fi

one_target() {
    local target=$1 log status=0 used
    log=$work/logs/$target-$(date -u +%Y%m%dT%H%M%S).txt
    local folders=("$work/corpus" "$here"/kept/*/)
    [ -d "$work/seeds" ] && folders+=("$work/seeds")
    TIMEFORMAT="%U %S"
    used=$({ time "$work/bin/$target" -max_total_time="$((seconds * jobs / 4))" -max_len="${LONGEST:-4096}" \
        -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 -dict="$here/capture.dict" \
        -artifact_prefix="$work/finds/$target-" "${folders[@]}" > "$log" 2>&1; } 2>&1) || status=1
    read -r user system <<< "${used##*$'\n'}"
    awk -v target="$target" -v version="$version" -v used="$user" -v in_kernel="$system" \
        -v status="$status" -v date="$(date -u +%FT%TZ)" '
        / cov: / { cov = $4; ft = $6; corp = $8 }
        /stat::number_of_executed_units:/ { runs = $2 }
        END { OFS = "\t"; print date, version, target, used + in_kernel, runs, cov, ft, corp, status }
        ' "$log" | tee -a "$work/figures.tsv"
    [ "$status" = 0 ] && gzip -f "$log" || tail -n 40 "$log" >&2
    return "$status"
}
export -f one_target
export work here seconds jobs version
# shellcheck disable=SC2086
printf '%s\n' $targets | xargs -P "$jobs" -I{} bash -c 'one_target {}'
