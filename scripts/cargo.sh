#!/usr/bin/env bash
# cargo with the cached RocksDB and target directory: scripts/cargo.sh build --release
set -euo pipefail
. "$(dirname "$0")/environment.sh"
"$root/scripts/install-build-tools.sh"
ROCKSDB_LIB_DIR="$("$root/scripts/build-rocksdb.sh")"
export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
cd "$root"
# Cargo tells the builds of two checkouts in one target directory apart by the times of their files alone: after another
# checkout's build it would take that one's for its own.
mark="$CARGO_TARGET_DIR/.checkout"
if [ "$(cat "$mark" 2>/dev/null)" != "$root" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  find . \( -name .git -o -name target \) -prune -o -type f \( -name '*.rs' -o -name '*.proto' -o -name '*.toml' \) \
    -exec touch {} +
  echo "$root" >"$mark"
fi
exec cargo "$@"
