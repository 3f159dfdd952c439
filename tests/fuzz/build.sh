#!/usr/bin/env bash
# Builds the fuzz targets into a folder. Usage: tests/fuzz/build.sh FOLDER [TARGET...]
# Targets: core (the C core alone), both (against the NumPy core), core_small and both_small (with
# small limits, so that small inputs reach them); core_blind (without the mutator); cover and
# cover_small (no fuzzers: they run the files named, to measure what those cover).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
source=${SOURCE:-$root} # where xai_traffic is
out=${1:?folder}
shift
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
mkdir -p "$out/tables"
PYTHONPATH=$source "$python" "$here/inputs.py" > "$out/tables/fuzz_tables.h"
"$python" "$here/small_limits.py" "$source/xai_traffic/capture/native" "$out/usual" "$out/small"
variable() { "$python" -c "import sysconfig; print(sysconfig.get_config_var('$1'))"; }
build() { # NAME FILE FLAGS...
    local name=$1 file=$2
    shift 2
    "${CLANG:-clang}" -std=c11 -g -O1 -fno-omit-frame-pointer -fno-strict-aliasing -Wall -Wextra \
        -Wno-unused-function -Wno-missing-field-initializers -I"$out/tables" -I"$here" \
        "$here/$file" "$@" -o "$out/$name"
}
fuzz=(-fsanitize=address,undefined,fuzzer -fno-sanitize-recover=all)
cover=(-DBLIND -DSTANDALONE -fprofile-instr-generate -fcoverage-mapping)
usual=(-I"$out/usual")
small=(-I"$out/small" -DSMALL_LIMITS)
embed=(-I"$(variable INCLUDEPY)" -L"$(variable LIBDIR)" -Wl,-rpath,"$(variable LIBDIR)"
    -lpython"$(variable LDVERSION)" "-DFUZZ_TESTS=\"$(dirname "$here")\""
    "-DFUZZ_SOURCE=\"$source\"" "-DFUZZ_PYTHON=\"$python\"")
[ $# -gt 0 ] || set -- core both core_small both_small
for name; do
    case $name in
    core) build "$name" fuzz_core.c "${usual[@]}" "${fuzz[@]}" ;;
    core_small) build "$name" fuzz_core.c "${small[@]}" "${fuzz[@]}" ;;
    core_blind) build "$name" fuzz_core.c "${usual[@]}" "${fuzz[@]}" -DBLIND ;;
    both) build "$name" fuzz_both.c "${usual[@]}" "${fuzz[@]}" "${embed[@]}" ;;
    both_small) build "$name" fuzz_both.c "${small[@]}" "${fuzz[@]}" "${embed[@]}" ;;
    cover) build "$name" fuzz_core.c "${usual[@]}" "${cover[@]}" ;;
    cover_small) build "$name" fuzz_core.c "${small[@]}" "${cover[@]}" ;;
    *) echo "unknown target $name" >&2 && exit 2 ;;
    esac
done
