// The kernels for f32 elements. Read by the compiler once per SIMD target.
#define BN2D_ELEMENT float
#define BN2D_TABLE kernels_f32
#define BN2D_FILE "kernels/f32.cc"
#include "kernels/element_type.inl.h"
