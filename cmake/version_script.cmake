# Exported symbols, by name, from a list of functions; how our shared libraries are linked; and what a static library
# keeps for itself.

# bn2d_exports(TARGET LIST NODE PACKAGE GETTER): TARGET exports the functions of the file LIST, under the versions
# NODE_<since>, and GETTER. PACKAGE is the Debian package with the library.
function(bn2d_exports target list node package getter)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${list})
  file(STRINGS ${PROJECT_SOURCE_DIR}/${list} lines REGEX "^BN2D_FUNCTION\\(")
  set(versions "")
  foreach(line IN LISTS lines)
    string(REGEX MATCH "^BN2D_FUNCTION\\(\"([0-9.]+)\", ([a-z0-9_]+)\\)" _ "${line}")
    if(NOT CMAKE_MATCH_1 IN_LIST versions)
      list(APPEND versions "${CMAKE_MATCH_1}")
      set(names_${CMAKE_MATCH_1} "")
    endif()
    list(APPEND names_${CMAKE_MATCH_1} "bn2d_${CMAKE_MATCH_2}")
  endforeach()
  list(GET versions 0 first)
  list(APPEND names_${first} ${getter})
  set(script "")
  set(symbols "lib${target}.so.${PROJECT_VERSION_MAJOR} ${package} #MINVER#\n")
  set(previous "")
  foreach(version IN LISTS versions)
    list(JOIN names_${version} "; " names)
    foreach(name IN LISTS names_${version} ITEMS ${node}_${version})
      string(APPEND symbols " ${name}@${node}_${version} ${version}.0\n")
    endforeach()
    if(previous STREQUAL "")
      string(APPEND script "${node}_${version} { global: ${names}; local: *; };\n")
    else()
      string(APPEND script "${node}_${version} { global: ${names}; } ${previous};\n")
    endif()
    set(previous ${node}_${version})
  endforeach()
  set(map ${PROJECT_BINARY_DIR}/${target}.map)
  file(CONFIGURE OUTPUT ${map} CONTENT "${script}" @ONLY)
  # The same for Debian: since which version of the package each symbol is there (package.cmake).
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/debian/${target}/symbols CONTENT "${symbols}" @ONLY)

  target_link_options(${target} PRIVATE
    -Wl,--version-script=${map}
    -Wl,--exclude-libs,ALL
    # The table's slots and internal calls stay ours, whatever a host preloads or which other copy it has.
    -Wl,-Bsymbolic-functions
    -Wl,-z,now,-z,relro
    -Wl,--gc-sections
    -Wl,--as-needed # of Highway only the headers are used
    # A oneTBB worker may still be running our code when a plugin host calls dlclose.
    -Wl,-z,nodelete
    # A host's -ffast-math or -Ofast would link crtfastmath.o, which changes MXCSR of whoever loads the library. Only
    # another -O ends what -Ofast means to the linker.
    -fno-fast-math -fno-unsafe-math-optimizations -O2)
  if(NOT BN2D_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,-z,defs)
  endif()
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map})
endfunction()

# bn2d_hides(TARGET NAME): what links the static library TARGET, which its users call bn2d::NAME, exports nothing of it.
# Else two plugins with a copy each, or one and a host with libbn2d.so, would call into each other's.
function(bn2d_hides target name)
  if(UNIX AND NOT APPLE) # ELF
    target_link_options(${target} INTERFACE LINKER:--exclude-libs,$<TARGET_FILE_NAME:bn2d::${name}>)
  endif()
endfunction()
