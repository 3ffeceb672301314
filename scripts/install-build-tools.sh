#!/usr/bin/env bash
# Installs what the build needs beside rustup's cargo: a C++ compiler and libclang (for RocksDB's bindings).
set -euo pipefail
. "$(dirname "$0")/environment.sh"

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
# Not libclang-cpp, which clang-format and others bring and which bindgen cannot use.
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null
}
have_libclang || missing+=(libclang1-14 libclang-common-14-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

say "installing with apt-get, since the build of RocksDB needs them: ${missing[*]}"
command -v apt-get >/dev/null || die "please install: a C++20 compiler and libclang (this system has no apt-get)"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "please install as root: ${missing[*]}"
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
