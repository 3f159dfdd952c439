#!/usr/bin/env bash
# Makes .venv, installs xai_traffic and runs the whole way on captures it makes itself.
# Usage: bash launch/demo.sh [OUT]     (default: demo)   Run again, it reuses what stands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
install_into_venv .
.venv/bin/xai-traffic --version
.venv/bin/xai-traffic demo --out "${1:-demo}"
