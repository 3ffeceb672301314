#!/usr/bin/env bash
# Form and lints of the whole workspace: rustfmt and clippy without a warning.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

for component in fmt clippy; do
  cargo "$component" --version >/dev/null 2>&1 && continue
  say "cargo $component is not here; adding it with rustup"
  rustup component add rustfmt clippy >&2 || die "please add it: rustup component add rustfmt clippy"
done
"$root/scripts/install-protoc.sh"
cd "$root"
cargo fmt --all --check
scripts/cargo.sh clippy --workspace --all-targets --locked -- -D warnings
# Targets with `test = false` are not among "all".
scripts/cargo.sh clippy --workspace --test conformance --test cluster --test apiserver --locked -- -D warnings
echo "form and lints hold"
