// The kernels for f64 elements. Read by the compiler once per SIMD target.
#define BN2D_ELEMENT double
#define BN2D_TABLE kernels_f64
#define BN2D_FILE "kernels/f64.cc"
#include "kernels/element_type.inl.h"
