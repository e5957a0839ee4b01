// Settings of the process that steer speed, never results.
#pragma once
#include <cstdint>

#include "parallel/plan.h"
#include "parallel/pool.h"

namespace bn2d {

void set_thread_limit(int32_t threads);  // 0: none
int32_t thread_limit();
void set_streaming_threshold(int64_t bytes);  // negative: derived
int64_t streaming_threshold();

// What a call may use: the pool's threads within the limits of the process and of the module (0:
// none).
Machine machine_for_call(const Pool &pool, int32_t module_limit, const Work &work);

// Whether the output goes past the caches.
bool streams(const Work &work, const Machine &machine);

}  // namespace bn2d
