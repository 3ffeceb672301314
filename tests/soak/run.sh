#!/usr/bin/env bash
# The long tests, one after the other, each a line of list.txt: "what | command". Writes docs/soak.md: what was run, on
# which commit, for how long, and what came of it; a command tells that in lines that begin with "soak: ".
#   SOAK=<pattern> runs only the lines that match; the others' results stay in the report.
#   METASTORE_SOAK_SECONDS is how long those go on that could go on for ever (600).
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../scripts/environment.sh"
cd "$root" || exit 1

report="$root/docs/soak.md"
commit="$(git rev-parse --short=12 HEAD)"
git diff --quiet HEAD -- . ':!docs/soak.md' || commit="$commit, changed"
rows="$(mktemp)"
output="$(mktemp)"
trap 'rm -f "$rows" "$output"' EXIT
failed=0

# The result of an earlier run, where there is one.
earlier() { [ ! -f "$report" ] || grep -F "| $1 |" "$report"; }

while IFS='|' read -r what command; do
  what="$(echo "$what" | xargs)"
  if [ -n "${SOAK:-}" ] && ! grep -qE "$SOAK" <<<"$what"; then
    earlier "$what" >>"$rows"
    continue
  fi
  say "soak: $what"
  begin="$(date +%s)"
  if bash -c "$command" </dev/null >"$output" 2>&1; then result="passed"; else result="FAILED"; failed=1; fi
  took="$(($(date +%s) - begin))"
  # The test program has begun the first such line with the test's name.
  said="$(sed -n -E 's/^(test [^ ]+ \.\.\. )?soak: //p' "$output" | paste -sd ';' | sed 's/;/; /g; s/|/\//g')"
  # What went wrong comes first, the trace of where later.
  [ "$result" = passed ] || { grep -a -A 5 -E '(^---- |Error: )' "$output" | head -n 60; tail -n 20 "$output"; } >&2
  say "$result after $took s: $said"
  echo "| $(date -u +'%Y-%m-%d %H:%M') | $commit | $what | $took s | $result${said:+: $said} |" >>"$rows"
done < <(sed -e '/^#/d' -e '/^$/d' "$here/list.txt")

{
  echo "# Soak"
  echo
  echo "The long tests, as \`make soak\` last ran them (UTC). \`tests/soak/list.txt\` has their commands."
  echo
  echo "| date | commit | what | took | result |"
  echo "|---|---|---|---|---|"
  cat "$rows"
} >"$report"
exit "$failed"
