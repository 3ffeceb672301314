#!/usr/bin/env bash
# The conformance suite against a real etcd. METASTORE_TARGETS (rocksdb,memory) and METASTORE_SIZES (1,3) choose
# what is compared with it.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
"$root/scripts/install-protoc.sh"
"$root/tests/reference/build.sh"
# Builds the binary as well, from the same dependencies as the tests below: those of `cargo build` have other features.
"$root/scripts/cargo.sh" test --locked --workspace --test start_and_stop --no-run
say "targets: ${METASTORE_TARGETS:-all}, sizes: ${METASTORE_SIZES:-all}"
exec "$root/scripts/cargo.sh" test --locked --workspace --test conformance -- --test-threads="${TEST_THREADS:-6}" "$@"
