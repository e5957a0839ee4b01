// The kernels for f16 elements. Read by the compiler once per SIMD target.
#define BN2D_ELEMENT f16
#define BN2D_TABLE kernels_f16
#define BN2D_FILE "kernels/f16.cc"
#include "kernels/element_type.inl.h"
