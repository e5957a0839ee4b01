#!/bin/sh
# capi/csharp with Mono.
. "$(dirname "$0")/language.sh"
need mcs mono
binding csharp

mcs -warnaserror -out:Bn2d.dll -target:library "$binding/Bn2d.cs" "$binding/Raw.cs"
mcs -warnaserror -r:Bn2d.dll -out:Example.exe "$binding/Example.cs"
mcs -warnaserror -r:Bn2d.dll -out:Vectors.exe "$BN2D_SOURCE/tests/languages/Vectors.cs"
shown csharp Example.cs
example mono Example.exe

# The second program of the README, as it is typed: complete, and bfloat16 of 1 goes in and comes
# out of a new module in eval mode.
awk '$0 == "```csharp" { ++block; next } $0 == "```" { if (block == 2) exit } block == 2' \
  "$binding/README.md" >Half.cs
mcs -warnaserror -r:Bn2d.dll -out:Half.exe Half.cs
half=$(mono Half.exe)
[ "$half" = 'x 0x3f80, y 0x3f80' ] || fail "the second program of the README printed $half"

# The view for the functions without a class, as a file of the program sees it.
cat >View.cs <<'END'
using System;
using System.Runtime.InteropServices;
static class View
{
    static void Main()
    {
        Type view = typeof(Bn2d.Raw.bn2d_view);
        Console.WriteLine(Marshal.SizeOf(view) + " " + Marshal.OffsetOf(view, "byte_offset"));
    }
}
END
mcs -warnaserror -out:View.exe View.cs "$binding/Bn2d.cs" "$binding/Raw.cs"
view=$(mono View.exe)
[ "$view" = '48 40' ] || fail "the size of bn2d_view and the place of byte_offset are $view"

mono Vectors.exe
