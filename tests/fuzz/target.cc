// For libFuzzer: a finding ends the program, so that the input is kept.
#include <cstdio>
#include <cstdlib>

#include "fuzz/machine.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  try {
    bn2d_fuzz::Machine(data, size, false).run();
  } catch (const bn2d_fuzz::Finding &finding) {
    std::fprintf(stderr, "bn2d_fuzz: %s\n", finding.what());
    std::abort();
  }
  return 0;
}
