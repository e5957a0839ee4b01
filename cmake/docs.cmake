# cmake --build build --target bn2d_docs: the manual as HTML, in docs/html of the build folder.
configure_file(cmake/Doxyfile.in ${PROJECT_BINARY_DIR}/docs/Doxyfile @ONLY)
find_program(BN2D_DOXYGEN doxygen)
mark_as_advanced(BN2D_DOXYGEN)
if(BN2D_DOXYGEN)
  add_custom_target(bn2d_docs COMMAND sh ${PROJECT_SOURCE_DIR}/cmake/docs.sh ${BN2D_DOXYGEN} Doxyfile
    WORKING_DIRECTORY ${PROJECT_BINARY_DIR}/docs VERBATIM)
else()
  add_custom_target(bn2d_docs COMMAND ${CMAKE_COMMAND} -E echo "bn2d_docs needs doxygen; then run cmake again"
    COMMAND ${CMAKE_COMMAND} -E false VERBATIM)
endif()
