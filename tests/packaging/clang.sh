#!/bin/sh
# Clang knows all flags of all files, in each kind of build. Catches: a flag of GCC that is given to every compiler. That
# clang compiles the sources is seen where its sanitizer is built.
. "$(dirname "$0")/common.sh"
need clang clang++ python3
work_in clang

for type in '' Release Debug; do
  "$CMAKE" -S "$BN2D_SOURCE" -B "build$type" -DCMAKE_BUILD_TYPE="$type" -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ -DBN2D_WERROR=ON -DBN2D_DEVELOPER_MODE=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >log 2>&1 ||
    fail "$(cat log)"
  # With -### clang reads its command line, and compiles nothing.
  python3 - "build$type/compile_commands.json" <<'PYTHON'
import json, shlex, subprocess, sys

commands = json.load(open(sys.argv[1]))
if len(commands) < 50:
    sys.exit("%d files are compiled" % len(commands))
for command in commands:
    words = shlex.split(command["command"]) + ["-###"]
    done = subprocess.run(words, cwd=command["directory"], capture_output=True, text=True)
    for line in done.stderr.splitlines():
        if "error:" in line or "warning:" in line:
            sys.exit("%s: %s" % (command["file"], line))
PYTHON
done
