# Sourced by the other scripts: where builds are cached, outside the checkout, so that a new clone is quick, and how
# packages that are missing get here.
METASTORE_CACHE="${METASTORE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/metastore}"
export METASTORE_CACHE
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$METASTORE_CACHE/target}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The documents are UTF-8, whatever the machine speaks; Debian always has this one.
export LC_ALL=C.UTF-8

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# install_packages WHY PACKAGE...: Debian packages, as root or with sudo; says so, or says what to install.
install_packages() {
  local why="$1"; shift
  command -v apt-get >/dev/null || die "$why needs what Debian has in the packages: $*; this system has no apt-get"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "$why needs packages; please run as root: apt-get install $*"
    as_root=(sudo)
  fi
  say "$why needs packages; installing them with apt-get: $*"
  "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    die "apt-get could not install: $*"
}

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
