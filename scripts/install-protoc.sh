#!/usr/bin/env bash
# Installs protoc, which the etcd-client crate is built with: the conformance tests use that crate as a client.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

# The second package brings the descriptions of protobuf itself.
have_protoc() {
  [ -n "${PROTOC:-}" ] || { command -v protoc >/dev/null && [ -f /usr/include/google/protobuf/descriptor.proto ]; }
}
have_protoc || install_packages "the etcd-client crate of the tests" protobuf-compiler libprotobuf-dev
