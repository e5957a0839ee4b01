# What bn2d_build_info() tells.
set(BN2D_HWY_VERSION "${hwy_VERSION}")
if(NOT BN2D_HWY_VERSION)
  set(BN2D_HWY_VERSION "${HWY_VERSION}")
endif()
configure_file(capi/build_info.h.in generated/build_info.h @ONLY)
target_include_directories(bn2d PRIVATE ${PROJECT_BINARY_DIR}/generated)
