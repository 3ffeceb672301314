#!/bin/sh
# Builds what MetaStore is compared with: etcd, etcdctl, etcdutl and etcd's benchmark client, from the
# module versions pinned in the go.mod files beside this script. Binaries land in
#   ${METASTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/metastore}/reference/
# and are built again only when a go.mod or go.sum changes. Prints that folder.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${METASTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/metastore}/reference
mkdir -p "$cache"

# Two test runs may start at once: the second waits and finds everything built.
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

fail() { echo "tests/reference/build.sh: $*" >&2; exit 1; }

go_is_new_enough() {
    command -v "$1" >/dev/null 2>&1 || return 1
    version=$("$1" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
    major=${version%%.*}; rest=${version#*.}; minor=${rest%%.*}
    [ "${major:-0}" -gt 1 ] || { [ "${major:-0}" -eq 1 ] && [ "${minor:-0}" -ge 26 ]; }
}

find_go() {
    for candidate in "${GO:-go}" /usr/local/go/bin/go /usr/lib/go-1.26/bin/go; do
        if go_is_new_enough "$candidate"; then echo "$candidate"; return 0; fi
    done
    return 1
}

# build <folder> <binary> <package>
build() {
    hash=$(cat "$here/$1/go.mod" "$here/$1/go.sum" | sha256sum | cut -d' ' -f1)
    stamp="$cache/.$2.stamp"
    if [ -x "$cache/$2" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$hash $3" ]; then return 0; fi
    go=$(find_go) || fail "building $2 needs Go 1.26 or newer, and none was found (looked at \$GO, PATH,
  /usr/local/go/bin and /usr/lib/go-1.26/bin). Install it from https://go.dev/dl/ or your distribution,
  or set GO=/path/to/go, then run this script again."
    echo "building $2 ($3)" >&2
    rm -f "$stamp"
    (cd "$here/$1" && CGO_ENABLED=0 "$go" build -trimpath -o "$cache/.$2.new" "$3") ||
        fail "building $2 failed; the messages above are Go's"
    mv "$cache/.$2.new" "$cache/$2"
    echo "$hash $3" >"$stamp"
}

build etcd etcd go.etcd.io/etcd/server/v3
build etcd etcdctl go.etcd.io/etcd/etcdctl/v3
build etcd etcdutl go.etcd.io/etcd/etcdutl/v3
build benchmark benchmark go.etcd.io/etcd/v3/tools/benchmark
echo "$cache"
