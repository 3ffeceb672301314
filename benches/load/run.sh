#!/usr/bin/env bash
# MetaStore beside etcd, one member and three; the report goes to docs/performance.md and docs/performance/.
# MEMBERS chooses the sizes; arguments go to the load program (--runs, --scale, --only). Loads that are not chosen keep
# what docs/performance/load-*.json says of them.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/tests/reference/build.sh"
# One after the other: the member is built as `make run` builds it.
"$root/scripts/cargo.sh" build --locked --release --package metastore
"$root/scripts/cargo.sh" build --locked --release --package metastore-load
commit="$(git -C "$root" rev-parse --short=12 HEAD)"
[ -z "$(git -C "$root" status --porcelain -- . ':!docs')" ] || commit="$commit, changed"
work="$(mktemp -d "${TMPDIR:-/tmp}/metastore-load.XXXXXX")"
trap 'rm -rf "$work"' EXIT
for members in ${MEMBERS:-1 3}; do
  "$CARGO_TARGET_DIR/release/metastore-load" \
    --etcd "$METASTORE_CACHE/reference/etcd" --benchmark "$METASTORE_CACHE/reference/benchmark" \
    --metastore "$CARGO_TARGET_DIR/release/metastore" \
    --commit "$commit" --date "$(date -u +%F)" --members "$members" --data "$work" --output "$root/docs/performance" "$@"
done
{
  cat "$here/introduction.md"
  for report in "$root"/docs/performance/load-*.md; do
    members="$(basename "$report" .md)"
    printf '\n## Members: %s\n\n' "${members#load-}"
    sed 's,](load-,](performance/load-,' "$report"
  done
} >"$root/docs/performance.md"
say "the report is in docs/performance.md"
