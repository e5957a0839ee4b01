#!/bin/sh
# The recipes for package managers can be read, and tell the version of the header; so does the changelog, which names every
# function that version has added.
. "$(dirname "$0")/common.sh"
need python3
cd "$BN2D_SOURCE/cmake/packaging"
version=$(sed -n 's/^#define BN2D_VERSION_[MP][A-Z]* \([0-9]*\).*/\1/p' "$BN2D_SOURCE/include/bn2d/bn2d.h" | paste -s -d .)
python3 - "$version" <<'END'
import json
import re
import sys

version = sys.argv[1]
recipe = open("conan/conanfile.py").read()
compile(recipe, "conanfile.py", "exec")
conda = open("conda/meta.yaml").read()
changes = open("../../.github/CHANGELOG.md").read()
told = {
    "changelog": re.search(r"^## (\S+)", changes, flags=re.M).group(1),
    "vcpkg": json.load(open("vcpkg/vcpkg.json"))["version"],
    "conan": re.search(r'version = "(.*)"', recipe).group(1),
    "conda": re.search(r"version: (.*)", conda).group(1),
}
for name, value in told.items():
    if value != version:
        sys.exit("%s tells version %s, the header %s" % (name, value, version))
listed = re.findall(r'^BN2D_FUNCTION\("([0-9.]+)", (\w+)\)', open("../../capi/functions.inc").read(), flags=re.M)
newest = changes.split("\n## ")[1]
unnamed = [name for since, name in listed if version.startswith(since + ".") and "`bn2d_%s`" % name not in newest]
if unnamed:
    sys.exit("the changelog does not name: bn2d_" + ", bn2d_".join(unnamed))
try:
    import yaml
except ImportError:
    pass
else:
    yaml.safe_load(re.sub(r"{{(.*)}}", lambda m: json.dumps(m.group(1)), conda))
END
