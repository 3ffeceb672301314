#!/usr/bin/env bash
# Real kube-apiservers on MetaStore. METASTORE_KUBERNETES (1.34,1.37) and METASTORE_APISERVER_STORES (rocksdb; also memory, and
# etcd to check the cases themselves) choose what runs; arguments go to the test binary.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/tests/reference/build.sh" >/dev/null
versions="${METASTORE_KUBERNETES:-1.34,1.37}"
for version in ${versions//,/ }; do "$here/build.sh" "$version" >/dev/null; done
"$root/scripts/cargo.sh" build --locked --release --package metastore
METASTORE_BIN="${METASTORE_BIN:-$CARGO_TARGET_DIR/release/metastore}"
export METASTORE_BIN
say "Kubernetes $versions on ${METASTORE_APISERVER_STORES:-rocksdb}"
results="$(mktemp)"
trap 'rm -f "$results"' EXIT
"$root/scripts/cargo.sh" test --locked --workspace --test apiserver -- --test-threads="${TEST_THREADS:-2}" "$@" |
  tee "$results"
echo "soak: Kubernetes $versions on ${METASTORE_APISERVER_STORES:-rocksdb}: $(grep -c '^test .* ok$' "$results") cases passed"
