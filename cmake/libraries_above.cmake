# Libraries on top of libbn2d, each for what would cost the main one its size or its quick start:
#
#   bn2d_state   state files (nlohmann-json, private): include/bn2d/state.h, src/state, capi/state
#   bn2d_fold    folding into neighbouring layers (OpenBLAS): include/bn2d/fold.h, src/fold, capi/fold
#
# They call libbn2d through its C ABI alone, and are built where their dependency is found.

# bn2d_add_library_above(NAME LIBRARIES...): the target bn2d_NAME, alias bn2d::NAME.
function(bn2d_add_library_above name)
  set(target bn2d_${name})
  file(GLOB sources CONFIGURE_DEPENDS src/${name}/*.cc capi/${name}/*.cc)
  list(APPEND sources capi/above/arrays.cc)
  if(BN2D_STATIC)
    add_library(${target} STATIC ${sources})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    foreach(library IN LISTS ARGN)
      target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:${library}>)
    endforeach()
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:bn2d_flags>)
    bn2d_hides(${target} ${name})
    if(name STREQUAL fold)
      target_link_libraries(${target} INTERFACE $<INSTALL_INTERFACE:openblas>)
    endif()
  else()
    add_library(${target} SHARED ${sources} capi/above/report.cc capi/guard.cc)
    target_link_libraries(${target} PRIVATE bn2d_core bn2d_flags ${ARGN})
    string(TOUPPER ${target} node)
    bn2d_exports(${target} capi/${name}/functions.inc ${node} libbn2d-${name}${PROJECT_VERSION_MAJOR}
                 ${target}_get_api)
    # Where a host loads it by its path, libbn2d lies beside it.
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN")
  endif()
  add_library(bn2d::${name} ALIAS ${target})
  target_link_libraries(${target} PUBLIC bn2d)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/capi)
  target_compile_options(${target} PRIVATE -g $<$<OR:$<CONFIG:Release>,${BN2D_NO_BUILD_TYPE}>:-O2>)
  set_target_properties(${target} PROPERTIES UNITY_BUILD OFF EXPORT_NAME ${name} VERSION ${PROJECT_VERSION}
                                             SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()

# As part of another project only where that asks for them.
option(BN2D_STATE "Build libbn2d_state (state files), where nlohmann-json is found" ${PROJECT_IS_TOP_LEVEL})
option(BN2D_FOLD "Build libbn2d_fold (folding), where OpenBLAS is found" ${PROJECT_IS_TOP_LEVEL})

set(BN2D_LIBRARIES_ABOVE "")
if(BN2D_STATE)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    find_package(nlohmann_json 3.9 CONFIG QUIET)
  endif()
  if(TARGET nlohmann_json::nlohmann_json)
    bn2d_add_library_above(state nlohmann_json::nlohmann_json)
    list(APPEND BN2D_LIBRARIES_ABOVE state)
  else()
    message(STATUS "No nlohmann-json: libbn2d_state, for state files, is not built")
  endif()
endif()
if(BN2D_FOLD OR BN2D_BENCHMARKS)
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND AND NOT TARGET PkgConfig::openblas)
    pkg_check_modules(openblas QUIET IMPORTED_TARGET openblas)
  endif()
endif()
if(BN2D_FOLD)
  if(TARGET PkgConfig::openblas)
    bn2d_add_library_above(fold PkgConfig::openblas)
    list(APPEND BN2D_LIBRARIES_ABOVE fold)
  else()
    message(STATUS "No OpenBLAS: libbn2d_fold, for folding, is not built")
  endif()
endif()
