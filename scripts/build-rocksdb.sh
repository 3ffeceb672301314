#!/usr/bin/env bash
# Compiles RocksDB once per machine (15 to 30 minutes on two cores) and keeps the library in the cache; every
# profile, clone and test target links that one. Prints its directory.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

directory="$(rocksdb_directory)"
if [ ! -f "$directory/librocksdb.a" ]; then
  say "compiling RocksDB, once for this machine; this takes 15 to 30 minutes"
  build="$METASTORE_CACHE/rocksdb/build"
  # Without debug information, which would make the library thirty times as large and every link slow.
  (cd "$root" && CARGO_TARGET_DIR="$build" CARGO_PROFILE_RELEASE_DEBUG=false \
    cargo build --locked --release --package metastore-engine >&2)
  mkdir -p "$directory.new"
  cp "$build"/release/build/librocksdb-sys-*/out/librocksdb.a "$directory.new/"
  rm -rf "$directory" "$build"
  mv "$directory.new" "$directory"
fi
echo "$directory"
