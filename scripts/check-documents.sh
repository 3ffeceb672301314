#!/usr/bin/env bash
# The documents: each exists in both languages, and every link to a file or a heading leads somewhere.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$root"

failed=0
complain() { echo "$*" >&2; failed=1; }
diff <(ls docs/en) <(ls docs/zh) >&2 || complain "docs/en and docs/zh hold different documents"

# The headings of a document as they stand in links: lower case, blanks as dashes, without punctuation.
anchors() { grep '^#' "$1" | sed 's/^#* //; s/[`.,:;()?!、，。：；（）？！]//g; s/ /-/g' | tr '[:upper:]' '[:lower:]'; }

while IFS=: read -r file link; do
  target="${link#](}"; target="${target%)}"
  case "$target" in http://* | https://* | mailto:*) continue ;; esac
  path="${target%%#*}"
  found="$(dirname "$file")/$path"
  [ -n "$path" ] || found="$file"
  if [ ! -e "$found" ]; then complain "$file: no $target"; continue; fi
  case "$target" in
    *.md#* | '#'*) anchors "$found" | grep -qxF -- "${target#*#}" || complain "$file: no heading for $target" ;;
  esac
done < <(grep -oH ']([^)]*)' README.md README.zh.md docs/*.md docs/*/*.md)
[ "$failed" -eq 0 ] && echo "the documents are there in both languages, and their links lead somewhere"
exit "$failed"
