# The exported symbols, by name, from the one list of functions (capi/functions.inc).
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/capi/functions.inc)
file(STRINGS ${PROJECT_SOURCE_DIR}/capi/functions.inc BN2D_FUNCTION_LINES REGEX "^BN2D_FUNCTION\\(")
set(BN2D_NODES "")
foreach(line IN LISTS BN2D_FUNCTION_LINES)
  string(REGEX MATCH "^BN2D_FUNCTION\\(\"([0-9.]+)\", ([a-z0-9_]+)\\)" _ "${line}")
  list(APPEND BN2D_NODES "${CMAKE_MATCH_1}")
  list(APPEND BN2D_NODE_${CMAKE_MATCH_1} "bn2d_${CMAKE_MATCH_2}")
endforeach()
list(REMOVE_DUPLICATES BN2D_NODES)
list(APPEND BN2D_NODE_1.0 bn2d_get_api)
set(script "")
set(symbols "libbn2d.so.${PROJECT_VERSION_MAJOR} libbn2d${PROJECT_VERSION_MAJOR} #MINVER#\n")
set(previous "")
foreach(node IN LISTS BN2D_NODES)
  list(JOIN BN2D_NODE_${node} "; " names)
  foreach(name IN LISTS BN2D_NODE_${node} ITEMS BN2D_${node})
    string(APPEND symbols " ${name}@BN2D_${node} ${node}.0\n")
  endforeach()
  if(previous STREQUAL "")
    string(APPEND script "BN2D_${node} { global: ${names}; local: *; };\n")
  else()
    string(APPEND script "BN2D_${node} { global: ${names}; } ${previous};\n")
  endif()
  set(previous BN2D_${node})
endforeach()
set(BN2D_VERSION_SCRIPT ${PROJECT_BINARY_DIR}/bn2d.map)
file(CONFIGURE OUTPUT ${BN2D_VERSION_SCRIPT} CONTENT "${script}" @ONLY)
# The same for Debian: since which version of the package each symbol is there (package.cmake).
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/debian/symbols CONTENT "${symbols}" @ONLY)

target_link_options(bn2d PRIVATE
  -Wl,--version-script=${BN2D_VERSION_SCRIPT}
  -Wl,--exclude-libs,ALL
  # The table's slots and internal calls stay ours, whatever a host preloads or which other copy it has.
  -Wl,-Bsymbolic-functions
  -Wl,-z,now,-z,relro
  -Wl,--as-needed # of Highway only the headers are used
  # A oneTBB worker may still be running our code when a plugin host calls dlclose.
  -Wl,-z,nodelete)
if(NOT BN2D_SANITIZE)
  target_link_options(bn2d PRIVATE -Wl,-z,defs)
endif()
set_property(TARGET bn2d APPEND PROPERTY LINK_DEPENDS ${BN2D_VERSION_SCRIPT})
