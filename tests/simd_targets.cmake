# bn2d_capi_tests on every SIMD target; skipped where the build or the processor has no such target, and on the best one: the
# tests of the label capi run on that. Without the files in which no kernel decides anything, and which take long.
foreach(target IN ITEMS AVX3 AVX2 SSE4 SCALAR)
  string(TOLOWER ${target} suffix)
  add_test(NAME simd.${suffix} COMMAND bn2d_capi_tests ${BN2D_CATCH_ARGS} "~[#contract_memory]~[#lifetime]~[.]")
  set_tests_properties(simd.${suffix} PROPERTIES ENVIRONMENT "BN2D_SIMD=${target};BN2D_TEST_OTHER_TARGETS=1" LABELS simd
    SKIP_RETURN_CODE 77 COST 500)
endforeach()
