#!/usr/bin/env bash
# Installs what the build needs beside rustup's cargo: a C++ compiler, make and libclang (for RocksDB's bindings).
set -euo pipefail
. "$(dirname "$0")/environment.sh"

command -v cargo >/dev/null || die "cargo is not in PATH: install Rust with rustup (https://rustup.rs), then open a new shell"
missing=()
command -v "${CXX:-g++}" >/dev/null || missing+=(g++)
# rustc links with cc, which comes with the compiler.
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
# Not libclang-cpp, which clang-format and others bring and which bindgen cannot use.
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G "${METASTORE_LLVM_DIRECTORIES:-/usr/lib/llvm-*}/lib/libclang.so*" >/dev/null
}
have_libclang || missing+=(libclang1-14 libclang-common-14-dev)
[ ${#missing[@]} -eq 0 ] || install_packages "the build of RocksDB" "${missing[@]}"
