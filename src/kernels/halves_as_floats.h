// Half data on old CPUs, which have no kernels of their own for them: stretches become floats in
// L1, and pass through the kernels of floats. The results are the same bits, because half data are
// computed in float or double anyway.
#pragma once
#include "kernels/kernels.h"

namespace bn2d::kernels {

// For jobs over planes. load, store: TypeKernels::load_array and store_array of the halves.
void sum_halves_as_floats(SumsOf op, const SumsJob &job, const TypeKernels &floats,
                          decltype(TypeKernels::load_array) load);
void map_halves_as_floats(MapOf op, const MapJob &job, const TypeKernels &floats,
                          decltype(TypeKernels::load_array) load,
                          decltype(TypeKernels::store_array) store);

}  // namespace bn2d::kernels
