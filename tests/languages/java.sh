#!/bin/sh
# capi/java with JNA.
. "$(dirname "$0")/language.sh"
wish javac java
jna=/usr/share/java/jna.jar # Debian's libjna-java
[ -e "$jna" ] || skip "no $jna"
binding java

javac -Xlint:all -Werror -cp "$jna" -d . "$binding"/org/bn2d/*.java "$binding/Example.java" \
  "$BN2D_SOURCE/tests/languages/Vectors.java"
shown java Example.java
example java -cp "$jna:." Example
java -Xmx256m -cp "$jna:." Vectors
