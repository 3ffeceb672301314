#!/usr/bin/env bash
# Durability and cluster tests with real member processes; arguments go to the test program. Installs what they need
# beside the build: strace, and mkfs.ext4 and mount for small disks. They need root, loop devices and /dev/fuse.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"

missing=()
command -v strace >/dev/null || missing+=(strace)
command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
command -v mount >/dev/null || missing+=(mount)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (this system has no apt-get)"
  [ "$(id -u)" -eq 0 ] || die "please install as root: ${missing[*]}"
  say "installing with apt-get, since these tests need them: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
[ "$(id -u)" -eq 0 ] || die "these tests mount file systems: run them as root"
[ -e /dev/fuse ] || die "these tests need FUSE: there is no /dev/fuse"

"$root/tests/reference/build.sh" >&2
# Builds the binary as well, from the same dependencies as the tests below: those of `cargo build` have other features.
"$root/scripts/cargo.sh" test --locked --workspace --test start_and_stop --no-run
exec "$root/scripts/cargo.sh" test --locked --workspace --test cluster -- --test-threads="${TEST_THREADS:-2}" "$@"
