#!/usr/bin/env bash
# The walls between the rooms: who may depend on what (docs/architecture.md).
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$root"

tree() { cargo tree --locked --edges normal --prefix none --format '{p}' --package "$1" 2>/dev/null; }
failed=0
must_not() {
  local room="$1"; shift
  for stranger in "$@"; do
    if tree "$room" | grep -q "^$stranger v"; then
      echo "direction broken: $room depends on $stranger" >&2
      failed=1
    fi
  done
}
only_named_by() {
  local crate="$1" room="$2"
  while read -r manifest; do
    [ "$manifest" = "$room/Cargo.toml" ] && continue
    if grep -qE "^$crate(\.workspace)? = (\{|\"|true)" "$manifest"; then
      echo "direction broken: $manifest names $crate, which only $room may" >&2
      failed=1
    fi
  done < <(find . -mindepth 2 \( -name '.?*' -o -name target \) -prune -o -name Cargo.toml -print | sed 's,^\./,,')
}
for room in metastore-engine metastore-mvcc metastore-state-machine; do must_not "$room" tokio tonic openraft; done
must_not metastore-bbolt tokio tonic openraft
must_not metastore-watch tonic openraft
must_not metastore-mvcc metastore-state-machine metastore-raft
must_not metastore-state-machine metastore-raft metastore-watch metastore-node
must_not metastore-raft metastore-node metastore-api
must_not metastore-node metastore-api
must_not metastore-concurrency metastore metastore-api metastore-node metastore-proto
only_named_by rocksdb server/engine
only_named_by openraft server/raft
[ "$failed" -eq 0 ] && echo "directions hold"
exit "$failed"
