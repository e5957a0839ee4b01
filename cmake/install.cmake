# What a user gets: the library, its headers, the CMake package, the pkg-config file. Nothing of it holds an absolute path,
# and nothing of it mentions oneTBB or Highway but the library itself: a user needs their shared libraries only. The
# static library is the exception: what is linked with it needs oneTBB, and says so.
include(CMakePackageConfigHelpers)

# What the static library needs. To a C compiler also C++'s own library, whichever it is.
set(BN2D_FIND_DEPENDENCIES "")
set(BN2D_PC_LIBS "")
if(BN2D_STATIC)
  set(names ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
  list(REMOVE_ITEM names ${CMAKE_C_IMPLICIT_LINK_LIBRARIES})
  list(REMOVE_DUPLICATES names)
  target_link_libraries(bn2d INTERFACE "$<INSTALL_INTERFACE:${names}>")
  set(BN2D_FIND_DEPENDENCIES "include(CMakeFindDependencyMacro)\nfind_dependency(TBB)\nfind_dependency(Threads)\n")
  set(names tbb ${names} ${CMAKE_DL_LIBS} pthread)
  list(TRANSFORM names PREPEND " -l")
  list(JOIN names "" BN2D_PC_LIBS)
  string(APPEND BN2D_PC_LIBS " -Wl,--exclude-libs,libbn2d.a") # see bn2d_hides
endif()

set(BN2D_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/bn2d)
install(TARGETS bn2d EXPORT bn2dTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
set(not_built "")
foreach(name IN ITEMS state fold)
  if(NOT name IN_LIST BN2D_LIBRARIES_ABOVE)
    list(APPEND not_built PATTERN ${name}.h* EXCLUDE)
  endif()
endforeach()
install(DIRECTORY include/bn2d DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev
  FILES_MATCHING PATTERN *.h PATTERN *.hpp ${not_built})
install(EXPORT bn2dTargets NAMESPACE bn2d:: DESTINATION ${BN2D_CMAKE_DIR} COMPONENT dev)
# The libraries above each have a component, a file of targets and a pkg-config file of their own: who needs none of them
# need not have what they need.
foreach(name IN LISTS BN2D_LIBRARIES_ABOVE)
  install(TARGETS bn2d_${name} EXPORT bn2d_${name}Targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${name} NAMELINK_COMPONENT dev
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
  install(EXPORT bn2d_${name}Targets NAMESPACE bn2d:: DESTINATION ${BN2D_CMAKE_DIR} COMPONENT dev)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/libbn2d-${name} COMPONENT ${name})
endforeach()
# What binding generators read.
set(BN2D_DATA_DIR ${CMAKE_INSTALL_DATADIR}/bn2d)
install(FILES capi/api/bn2d-api.json capi/api/bn2d.cdef DESTINATION ${BN2D_DATA_DIR} COMPONENT dev)
foreach(name IN LISTS BN2D_LIBRARIES_ABOVE)
  install(FILES capi/api/bn2d-${name}-api.json capi/api/bn2d-${name}.cdef DESTINATION ${BN2D_DATA_DIR} COMPONENT dev)
endforeach()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT dev)

configure_package_config_file(cmake/bn2dConfig.cmake.in ${PROJECT_BINARY_DIR}/bn2dConfig.cmake
  INSTALL_DESTINATION ${BN2D_CMAKE_DIR} PATH_VARS BN2D_DATA_DIR NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bn2dConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bn2dConfig.cmake ${PROJECT_BINARY_DIR}/bn2dConfigVersion.cmake
  DESTINATION ${BN2D_CMAKE_DIR} COMPONENT dev)

# bn2d.pc finds its prefix from where it lies.
set(BN2D_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH BN2D_PC_UP "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" BN2D_PC_UP "${BN2D_PC_UP}")
  set(BN2D_PC_PREFIX "\${pcfiledir}/${BN2D_PC_UP}")
endif()
foreach(dir LIBDIR INCLUDEDIR DATADIR)
  set(BN2D_PC_${dir} "${CMAKE_INSTALL_${dir}}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(BN2D_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
configure_file(cmake/bn2d.pc.in ${PROJECT_BINARY_DIR}/bn2d.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bn2d.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
set(BN2D_PC_LIBS_state "")
set(BN2D_PC_LIBS_fold "")
if(BN2D_STATIC)
  set(BN2D_PC_LIBS_state " -Wl,--exclude-libs,libbn2d_state.a")
  set(BN2D_PC_LIBS_fold " -lopenblas -Wl,--exclude-libs,libbn2d_fold.a")
endif()
foreach(BN2D_PC_NAME IN LISTS BN2D_LIBRARIES_ABOVE)
  set(BN2D_PC_LIBS_ABOVE "${BN2D_PC_LIBS_${BN2D_PC_NAME}}")
  configure_file(cmake/library_above.pc.in ${PROJECT_BINARY_DIR}/bn2d_${BN2D_PC_NAME}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/bn2d_${BN2D_PC_NAME}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
    COMPONENT dev)
endforeach()
