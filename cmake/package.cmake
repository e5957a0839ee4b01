# "cpack" in the build folder makes two Debian packages: libbn2d1 (the library) and libbn2d-dev (what is needed to use it).
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The bn2d authors")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libbn2d${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
# dpkg-shlibdeps of a program then asks for the version that has the functions it calls.
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/debian/bn2d/symbols)
# CPack counts the link libbn2d.so.1 as another library.
set(CPACK_POST_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/installed_size.cmake)
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libbn2d-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libbn2d${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION})")
include(CPack)
