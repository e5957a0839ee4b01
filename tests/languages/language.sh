# shellcheck shell=sh
# Read by the scripts of this folder: the tools of tests/packaging, and what all bindings have in common.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/../packaging/common.sh"

# A language that need not be there: without one of these commands, the test is skipped everywhere.
wish() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || skip "no $tool"
  done
}

# shown LANGUAGE FILE: the first block of that language in the README.md beside FILE is FILE, without its licence line.
shown() {
  awk -v block="\`\`\`$1" '
    !inside && $0 == block { inside = 1; next }
    inside && $0 == "```" { exit }
    inside { print }
  ' "$binding/README.md" >shown
  [ -s shown ] || fail "$binding/README.md shows no $2"
  sed '1 { /SPDX/ d; }' "$binding/$2" | diff - shown || fail "$binding/README.md shows another program than $2"
}

# goes_on LANGUAGE FILE PROGRAM [LINE]: writes FILE, that program with the block <!-- FILE --> of the README.md in front of
# its last line that begins with LINE, or at its end.
goes_on() {
  marked "$2" "$1" "$binding/README.md"
  mv "$2" block
  awk -v line="${4:-}" '
    { text[NR] = $0; if (line != "" && index($0, line) == 1) last = NR }
    END {
      for (i = 1; i <= NR; ++i) {
        if (i == last) while ((getline one < "block") > 0) print one
        print text[i]
      }
      if (line == "") while ((getline one < "block") > 0) print one
    }
  ' "$binding/$3" >"$2"
}

# fused COMMAND...: what goes_on() has written computes the same in all languages.
fused() {
  "$@" >fused.txt || fail "the second example failed: $*"
  cat fused.txt
  grep -q '^relu 0\.2787$' fused.txt || fail "the second example printed other numbers"
  grep -q '^GroupNorm(8, 64, .*: y -1\.7' fused.txt || fail "the second example printed other numbers"
}

# example COMMAND...: all bindings' examples compute the same.
example() {
  "$@" >example.txt || fail "the example failed: $*"
  cat example.txt
  grep -q 'bias\.grad 4096\(\.0*\)\{0,1\}, y -0\.1275' example.txt || fail "the example printed other numbers"
}

# binding NAME: starts the test of capi/NAME.
binding() {
  work_in "$1"
  binding=$BN2D_SOURCE/capi/$1
  lib=$BN2D_STAGE/$BN2D_LIBDIR
  export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export BN2D_VECTORS="$BN2D_SOURCE/tests/languages/vectors.txt"
}
