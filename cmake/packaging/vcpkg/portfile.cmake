# An overlay port that builds the checkout it lies in: vcpkg install bn2d --overlay-ports=cmake/packaging/vcpkg
# The triplet decides between libbn2d.so and libbn2d.a.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS LIBRARIES_ABOVE FEATURES state BN2D_STATE fold BN2D_FOLD)
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DBN2D_DEVELOPER_MODE=OFF -DBN2D_WERROR=OFF ${LIBRARIES_ABOVE})
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME bn2d CONFIG_PATH lib/cmake/bn2d)
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
