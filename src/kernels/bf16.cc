// The kernels for bf16 elements. Read by the compiler once per SIMD target.
#define BN2D_ELEMENT bf16
#define BN2D_TABLE kernels_bf16
#define BN2D_FILE "kernels/bf16.cc"
#include "kernels/element_type.inl.h"
