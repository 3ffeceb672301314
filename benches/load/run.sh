#!/usr/bin/env bash
# MetaStore beside etcd, one member and three; the report goes to docs/performance.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/tests/reference/build.sh"
"$root/scripts/cargo.sh" build --release --package metastore --package metastore-load
work="$(mktemp -d "${TMPDIR:-/tmp}/metastore-load.XXXXXX")"
trap 'rm -rf "$work"' EXIT
for members in ${MEMBERS:-1 3}; do
  "$CARGO_TARGET_DIR/release/metastore-load" \
    --etcd "$METASTORE_CACHE/reference/etcd" --benchmark "$METASTORE_CACHE/reference/benchmark" \
    --metastore "$CARGO_TARGET_DIR/release/metastore" \
    --members "$members" --data "$work" --output "$root/docs/performance" "$@"
done
