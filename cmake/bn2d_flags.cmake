# Flags of our own code. An interface target and variables of this folder, so that nothing leaks to users of bn2d::bn2d nor
# to a project that bn2d is part of.
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

set(BN2D_NO_BUILD_TYPE 0)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(BN2D_NO_BUILD_TYPE 1)
endif()

add_library(bn2d_flags INTERFACE)
target_compile_options(bn2d_flags INTERFACE
  # The warnings of a host are no errors here, whatever it has chosen.
  -Wall -Wextra $<IF:$<BOOL:${BN2D_WERROR}>,-Werror,-Wno-error>
  # Never fast-math, which a host may have chosen: it takes the checks of NaN away. First: it resets -ffinite-math-only
  # and -funsafe-math-optimizations, which GCC needs switched off after it.
  -fno-fast-math
  # What a host may have chosen part by part. (Not for clang: -fno-fast-math is all of it there, and the second would
  # ask for exact floating-point exceptions.)
  $<$<CXX_COMPILER_ID:GNU>:-fno-finite-math-only>
  $<$<CXX_COMPILER_ID:GNU>:-fno-unsafe-math-optimizations>
  # With -Ofast clang assumes that denormals are flushed.
  $<$<CXX_COMPILER_ID:Clang>:-fdenormal-fp-math=ieee>
  # An explicit MulAdd decides where a product and a sum are fused: the same bits from every compiler.
  -ffp-contract=off
  -fno-math-errno
  # Errors are exceptions inside, and status codes outside: a host may do without.
  -fexceptions
  # A call of one exported function by another is ours, whatever a host preloads.
  -fno-semantic-interposition)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # A small call clears and copies some structures. What GCC would use, rep stos and rep movs, takes longer to start
  # than the work takes: on Zen 3 eval of (1,16,8,8) takes 0.9 of the time with calls of the C library, a forward of
  # nothing 0.8.
  target_compile_options(bn2d_flags INTERFACE -mstringop-strategy=libcall)
endif()
if(BN2D_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "BN2D_FUZZ needs clang, the compiler is ${CMAKE_CXX_COMPILER_ID}: -DCMAKE_CXX_COMPILER=clang++")
  endif()
  set(BN2D_SANITIZE address,undefined)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(BN2D_SANITIZE)
  add_compile_definitions(BN2D_FEWER_TARGETS)
  add_compile_options(-fsanitize=${BN2D_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BN2D_SANITIZE})
endif()
