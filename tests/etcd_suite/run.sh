#!/usr/bin/env bash
# etcd's own client suite (Go package go.etcd.io/etcd/tests/v3/common, build tag e2e) with MetaStore as the binary named etcd.
# Each top-level test has a process and a network namespace of its own, since the suite uses fixed ports and skips the rest
# after one failure. Arguments are tests to run instead of all; TARGET=etcd runs the real etcd; PARALLEL tests at a time (2).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
. "$here/../../scripts/go.sh"

# It reads what Go's HTTP/2 prints of itself.
EXCEPT="TestAuthority"
TEST_SECONDS=900

[ "$(id -u)" -eq 0 ] || die "this suite makes network namespaces: run it as root"
command -v ip >/dev/null || install_packages "a network namespace" iproute2
reference="$("$root/tests/reference/build.sh")"
need_go "building etcd's client suite"
work="$(mktemp -d "${TMPDIR:-/tmp}/metastore-etcd-suite.XXXXXX")"
trap 'rm -rf "$work"' EXIT

# The tests read ../fixtures and write beside themselves, so they run in a copy of the module.
(cd "$here" && "$go" mod download go.etcd.io/etcd/tests/v3)
module="$(cd "$here" && "$go" list -m -f '{{.Dir}}' go.etcd.io/etcd/tests/v3)"
mkdir "$work/bin"
cp -r "$module/common" "$module/fixtures" "$work/"
chmod -R u+w "$work"
say "building etcd's client suite"
(cd "$here" && "$go" test -c -tags e2e -o "$work/common/common.test" go.etcd.io/etcd/tests/v3/common)
ln -s "$reference/etcdctl" "$reference/etcdutl" "$work/bin/"
case "${TARGET:-metastore}" in
  etcd) ln -s "$reference/etcd" "$work/bin/etcd" ;;
  metastore)
    "$root/scripts/cargo.sh" build --locked --release --package metastore
    ln -s "$CARGO_TARGET_DIR/release/metastore" "$work/bin/etcd"
    ;;
  *) die "TARGET is etcd or metastore" ;;
esac

# run_one TEST: passes only when the test ran and passed; its output stays where it failed.
run_one() {
  local name="$1" log="$work/$1.log"
  (cd "$work/common" && exec unshare --net sh -c '
    ip link set lo up && exec timeout "$1" ./common.test -test.v -test.timeout "$1s" -test.run "^$2\$" -bin-dir "$3"
  ' sh "$TEST_SECONDS" "$name" "$work/bin") >"$log" 2>&1 && grep -q -- "^--- PASS: $name " "$log" && result=passed || result=FAILED
  ! grep -q -- "--- SKIP" "$log" || result="$result, in part skipped"
  echo "$result $name" >>"$work/results"
  say "$result: $name"
}
export -f run_one say
export work TEST_SECONDS

if [ $# -gt 0 ]; then tests="$(printf '%s\n' "$@")"; else
  tests="$(cd "$work/common" && ./common.test -test.list '^Test' -bin-dir "$work/bin" | grep '^Test' | grep -vx "$EXCEPT")"
fi
: >"$work/results"
xargs -P "${PARALLEL:-2}" -I{} bash -c 'run_one {}' <<<"$tests"

wanted="$(wc -l <<<"$tests")"
passed="$(grep -c '^passed' "$work/results" || true)"
echo "soak: $passed of $wanted tests of etcd's client suite passed"
if [ "$passed" -ne "$wanted" ]; then
  while read -r name; do
    echo "---- $name"
    grep -vE '^\{|^ *logger.go|^=== ' "$work/$name.log" | tail -n 40
  done < <(sed -n 's/^FAILED[^T]*//p' "$work/results")
  echo "soak: failed: $(sed -n 's/^FAILED[^T]*//p' "$work/results" | sort | paste -sd ' ')"
  exit 1
fi
