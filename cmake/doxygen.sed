# Doxygen's filter: what the headers say in plain words, in its commands.
s/Threads:\( \|$\)/\n * @par Threads\n * /
s/Since \([0-9][0-9.]*\)\./\n * @since \1\n/
# A heading begins a group, and its text is the group's. The first one of a header has none before it to end.
s#^/\* ---* \(.*\) \*/$#/** @} */\n/** @name \1 */\n/** @{ */#
s#^/\*\* @} \*/\n\(.* @name \(constants\|plain values\|states\|folding\|exchange\) \)#\1#
\#^/\* ---*#,\#^ \*/# {
  s#^/\* ---* #/** @} */\n/** @name #
  s#^ \*/# */\n/** @{ */#
}
s#^} /\* extern "C" \*/#/** @} */\n&#
# A slot of the table is the function of its name.
s#^  [a-z].*(\*\([a-z0-9_]*\))(#  /** bn2d_\1() */\n&#
# Users write bn2d::Module: the inline namespace is the linker's.
/^inline namespace with_/d
s#^}  // inline namespace.*#/** @} */#
