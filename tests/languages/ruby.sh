#!/bin/sh
# capi/ruby with Fiddle.
. "$(dirname "$0")/language.sh"
need ruby
binding ruby

export RUBYLIB="$binding/lib"
shown ruby example.rb
example ruby -w "$binding/example.rb"
goes_on ruby fused.rb example.rb
fused ruby -w fused.rb
ruby -w "$BN2D_SOURCE/tests/languages/vectors.rb"
