#!/usr/bin/env bash
# cargo with the cached RocksDB and target directory: scripts/cargo.sh build --release
set -euo pipefail
. "$(dirname "$0")/environment.sh"
"$root/scripts/install-build-tools.sh"
ROCKSDB_LIB_DIR="$("$root/scripts/build-rocksdb.sh")"
export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
cd "$root"
exec cargo "$@"
