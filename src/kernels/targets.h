// The SIMD targets that the kernels are compiled for. Included before any header of Highway.
#pragma once

// What we do not build for, by the bits of Highway's targets. (1.0.3 has no names for the newer
// ones.) On x86 AVX3 (AVX-512), AVX2, SSE4 and the scalar fallback are left: bits 0 to 7 are
// variants of AVX-512, 12 to 14 are below SSE4, and would only add size. With BN2D_FEWER_TARGETS
// (sanitizers, which make compiling slow) AVX3 (8) and SSE4 (11) go, too. Elsewhere all but vectors
// of unknown length (SVE, RVV), which cannot be members of our sums.
#if defined(__x86_64__) && defined(BN2D_FEWER_TARGETS)
#define HWY_DISABLED_TARGETS 0x79FF
#elif defined(__x86_64__) || defined(__i386__)
#define HWY_DISABLED_TARGETS 0x70FF
#else
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif

// The fallback is HWY_SCALAR with every compiler. (Newer ones would get HWY_EMU128, which doubles
// the code of our kernels.)
#define HWY_BROKEN_EMU128 1

#include "hwy/detect_targets.h"

// BN2D_FOR_EACH_TARGET(X): X(name) for each of them, best first.
#if HWY_TARGETS & HWY_AVX3
#define BN2D_WITH_AVX3(X) X(AVX3)
#else
#define BN2D_WITH_AVX3(X)
#endif
#if HWY_TARGETS & HWY_AVX2
#define BN2D_WITH_AVX2(X) X(AVX2)
#else
#define BN2D_WITH_AVX2(X)
#endif
#if HWY_TARGETS & HWY_SSE4
#define BN2D_WITH_SSE4(X) X(SSE4)
#else
#define BN2D_WITH_SSE4(X)
#endif
#if HWY_TARGETS & HWY_NEON
#define BN2D_WITH_NEON(X) X(NEON)
#else
#define BN2D_WITH_NEON(X)
#endif
#if defined(HWY_NEON_WITHOUT_AES) && (HWY_TARGETS & HWY_NEON_WITHOUT_AES)
#define BN2D_WITH_NEON_WITHOUT_AES(X) X(NEON_WITHOUT_AES)
#else
#define BN2D_WITH_NEON_WITHOUT_AES(X)
#endif
#if HWY_TARGETS & HWY_SCALAR
#define BN2D_WITH_FALLBACK(X) X(SCALAR)
#else
#define BN2D_WITH_FALLBACK(X)
#endif
#define BN2D_FOR_EACH_TARGET(X) \
  BN2D_WITH_AVX3(X)             \
  BN2D_WITH_AVX2(X)             \
  BN2D_WITH_SSE4(X)             \
  BN2D_WITH_NEON(X)             \
  BN2D_WITH_NEON_WITHOUT_AES(X) \
  BN2D_WITH_FALLBACK(X)
