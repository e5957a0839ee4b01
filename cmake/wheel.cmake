# What capi/python/pyproject.toml puts into the Python wheel: the library, its header, its description. A wheel keeps no
# symbolic links, so the library is one file without a version in its name.
if(NOT SKBUILD_PROJECT_VERSION VERSION_EQUAL PROJECT_VERSION)
  message(FATAL_ERROR "capi/python/pyproject.toml has the version ${SKBUILD_PROJECT_VERSION}, the header ${PROJECT_VERSION}")
endif()
set_property(TARGET bn2d PROPERTY VERSION)
set_property(TARGET bn2d PROPERTY SOVERSION)
install(TARGETS bn2d LIBRARY DESTINATION bn2d)
install(FILES capi/api/bn2d-api.json DESTINATION bn2d)
install(DIRECTORY include/bn2d DESTINATION bn2d/include FILES_MATCHING PATTERN *.h PATTERN *.hpp)
