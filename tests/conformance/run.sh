#!/usr/bin/env bash
# The conformance suite against a real etcd. METASTORE_TARGETS (rocksdb,memory) and METASTORE_SIZES (1,3) choose
# what is compared with it.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/scripts/install-protoc.sh"
"$root/tests/reference/build.sh"
"$root/scripts/cargo.sh" build --locked --package metastore
cargo=("$root/scripts/cargo.sh" test --locked --package metastore-conformance)
say "targets: ${METASTORE_TARGETS:-all}, sizes: ${METASTORE_SIZES:-all}"

lines() { sed -e '/^#/d' -e '/^$/d' "$here/not_yet.txt"; }
skip=()
while read -r name; do skip+=(--skip "$name"); done < <(lines | sed -e 's/^~//' -e 's/  .*//')
"${cargo[@]}" -- --test-threads="${TEST_THREADS:-6}" "${skip[@]}"

say "cases in which MetaStore and etcd still differ (tests/conformance/not_yet.txt):"
lines | sed 's/^/  /'
while read -r name; do
  if METASTORE_TARGETS=rocksdb METASTORE_SIZES=1 "${cargo[@]}" -- --exact "$name" </dev/null >/dev/null 2>&1; then
    die "$name passes now: take it off tests/conformance/not_yet.txt"
  fi
done < <(lines | grep -v '^~' | sed 's/  .*//')
say "conformance holds for the rest"
