# What capi/python/pyproject.toml puts into the Python wheel: the library, its header, its description. A wheel keeps no
# symbolic links, so the library is one file without a version in its name.
if(NOT SKBUILD_PROJECT_VERSION VERSION_EQUAL PROJECT_VERSION)
  message(FATAL_ERROR "capi/python/pyproject.toml has the version ${SKBUILD_PROJECT_VERSION}, the header ${PROJECT_VERSION}")
endif()
set_property(TARGET bn2d PROPERTY VERSION)
set_property(TARGET bn2d PROPERTY SOVERSION)
install(TARGETS bn2d LIBRARY DESTINATION bn2d)
install(FILES capi/api/bn2d-api.json capi/api/bn2d-state-api.json capi/api/bn2d-fold-api.json DESTINATION bn2d)
add_custom_target(bn2d_wheel DEPENDS bn2d)
# Folding calls the OpenBLAS of the system, which a wheel does not bring. So it is in wheels made where OpenBLAS is; of
# others the system's libbn2d_fold serves.
foreach(library IN LISTS BN2D_LIBRARIES_ABOVE)
  set_property(TARGET bn2d_${library} PROPERTY VERSION)
  set_property(TARGET bn2d_${library} PROPERTY SOVERSION)
  install(TARGETS bn2d_${library} LIBRARY DESTINATION bn2d)
  add_dependencies(bn2d_wheel bn2d_${library})
endforeach()
install(DIRECTORY include/bn2d DESTINATION bn2d/include FILES_MATCHING PATTERN *.h PATTERN *.hpp)
