#!/bin/sh
# capi/java with JNA.
. "$(dirname "$0")/language.sh"
wish javac java
jna=/usr/share/java/jna.jar # Debian's libjna-java
[ -e "$jna" ] || skip "no $jna"
binding java

javac -Xlint:all -Werror -cp "$jna" -d . "$binding"/org/bn2d/*.java "$binding/Example.java" \
  "$BN2D_SOURCE/tests/languages/Vectors.java"
# The view for the functions without a class, as a class of the package sees it.
cat >View.java <<'END'
package org.bn2d;
class View {
  public static void main(String[] arguments) {
    Raw.bn2d_view view = new Raw.bn2d_view();
    view.byte_offset = 5;
    view.write();
    System.out.println(view.size() + " " + view.getPointer().getLong(40));
  }
}
END
javac -Xlint:all -Werror -cp "$jna:." -d . View.java
view=$(java -cp "$jna:." org.bn2d.View)
[ "$view" = '48 5' ] || fail "the size of bn2d_view is 48, byte_offset at 40 was set to 5; got $view"
shown java Example.java
example java -cp "$jna:." Example
java -Xmx256m -cp "$jna:." Vectors
