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
mono Vectors.exe
