#!/usr/bin/env bash
# Builds what MetaStore is compared with: etcd, etcdctl, etcdutl and etcd's benchmark client, from the
# module versions pinned in the go.mod files beside this script. Binaries land in
#   ${METASTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/metastore}/reference/
# and are built again only when a go.mod or go.sum changes. Prints that folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../scripts/environment.sh"
. "$here/../../scripts/go.sh"
cache="$METASTORE_CACHE/reference"
mkdir -p "$cache"

# Two test runs may start at once: the second waits and finds everything built.
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

# build <folder> <binary> <package>
build() {
  local hash stamp
  hash=$(cat "$here/$1/go.mod" "$here/$1/go.sum" | sha256sum | cut -d' ' -f1)
  stamp="$cache/.$2.stamp"
  if [ -x "$cache/$2" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$hash $3" ]; then return 0; fi
  need_go "building $2"
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
