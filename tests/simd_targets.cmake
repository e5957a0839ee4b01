# The whole of bn2d_capi_tests on every SIMD target; skipped where the build or the processor has no such target.
foreach(target IN ITEMS AVX3 AVX2 SSE4 SSSE3 SCALAR)
  string(TOLOWER ${target} suffix)
  add_test(NAME simd.${suffix} COMMAND bn2d_capi_tests)
  set_tests_properties(simd.${suffix} PROPERTIES ENVIRONMENT BN2D_SIMD=${target} LABELS simd SKIP_RETURN_CODE 77)
endforeach()
