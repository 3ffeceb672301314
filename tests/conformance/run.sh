#!/usr/bin/env bash
# The conformance suite against a real etcd; what METASTORE_TARGETS and METASTORE_SIZES say, everything by default.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/tests/reference/build.sh"
"$root/scripts/cargo.sh" build --locked --package metastore
cargo=("$root/scripts/cargo.sh" test --locked --package metastore-conformance)

mapfile -t not_yet < <(sed -e '/^#/d' -e '/^$/d' -e 's/  .*//' "$here/not_yet.txt")
skip=()
for name in "${not_yet[@]}"; do skip+=(--skip "$name"); done
"${cargo[@]}" -- --test-threads="${TEST_THREADS:-3}" "${skip[@]}"

say "${#not_yet[@]} cases in which MetaStore still differs from etcd (tests/conformance/not_yet.txt):"
sed -e '/^#/d' -e '/^$/d' -e 's/^/  /' "$here/not_yet.txt"
for name in "${not_yet[@]}"; do
  if METASTORE_TARGETS=rocksdb METASTORE_SIZES=1 "${cargo[@]}" -- --exact "$name" >/dev/null 2>&1; then
    die "$name passes now: take it off tests/conformance/not_yet.txt"
  fi
done
