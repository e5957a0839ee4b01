#!/bin/sh
# capi/ruby with Fiddle.
. "$(dirname "$0")/language.sh"
need ruby
binding ruby

export RUBYLIB="$binding/lib"
shown ruby example.rb
example ruby -w "$binding/example.rb"
ruby -w "$BN2D_SOURCE/tests/languages/vectors.rb"
