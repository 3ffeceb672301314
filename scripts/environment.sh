# Sourced by the other scripts: where builds are cached, outside the checkout, so that a new clone is quick.
METASTORE_CACHE="${METASTORE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/metastore}"
export METASTORE_CACHE
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$METASTORE_CACHE/target}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The compiled RocksDB depends on its version, its features, the target's CPU flags and how it is built.
rocksdb_key() {
  {
    cat "$root/scripts/build-rocksdb.sh"
    sed -n '/^name = "librocksdb-sys"/,/^checksum/p' "$root/Cargo.lock"
    grep '^rocksdb = ' "$root/Cargo.toml"
    cat "$root/.cargo/config.toml"
    "${CXX:-g++}" -dumpfullversion 2>/dev/null || true
  } | sha256sum | cut -c1-16
}
rocksdb_directory() { echo "$METASTORE_CACHE/rocksdb/$(rocksdb_key)"; }
