#!/usr/bin/env bash
# Builds kube-apiserver and kubectl of one Kubernetes minor version from the modules pinned in v<version>/go.mod:
#   tests/apiserver/build.sh 1.37
# Binaries land in ${METASTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/metastore}/kubernetes/<version>/ and are built again only when
# go.mod, go.sum or the flags change. Prints that folder. Cold, it takes about eight minutes of one core.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../scripts/environment.sh"
. "$here/../../scripts/go.sh"
minor=${1:?which version: 1.34 or 1.37}
modules="$here/v$minor"
[ -f "$modules/go.mod" ] || die "there is no $modules/go.mod"
cache="$METASTORE_CACHE/kubernetes/$minor"
mkdir -p "$cache"

# Two test runs may start at once: the second waits and finds everything built.
exec 9>"$cache/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

version=$(sed -n 's/^\(require\)\{0,1\}[ \t]*k8s.io\/kubernetes \(v[0-9.]*\)$/\2/p' "$modules/go.mod" | head -n 1)
[ -n "$version" ] || die "$modules/go.mod requires no k8s.io/kubernetes"
# kube-apiserver does not start without a version; upstream's build sets it at link time, too.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=${minor%%.*} -X $package.gitMinor=${minor#*.}"
  flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit=0000000000000000000000000000000000000000"
  flags="$flags -X $package.buildDate=1970-01-01T00:00:00Z"
done
hash=$({ cat "$modules/go.mod" "$modules/go.sum"; echo "$flags"; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$cache/.stamp" 2>/dev/null)" != "$hash" ]; then
  need_go "building kube-apiserver"
  say "building kube-apiserver and kubectl $version"
  rm -f "$cache/.stamp"
  (cd "$modules" && CGO_ENABLED=0 "$go" build -mod=readonly -trimpath -ldflags "$flags" -o "$cache/" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl) ||
    die "building $version failed; the messages above are Go's"
  echo "$hash" >"$cache/.stamp"
fi
echo "$cache"
