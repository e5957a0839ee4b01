// The largest errors that the numerical tests have measured, printed at the end of the run.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "support/numerics_fixture.h"

namespace {

#ifdef BN2D_CATCH2_V3
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

class Report : public Listener {
 public:
  using Listener::Listener;
  void testRunEnded(const Catch::TestRunStats &stats) override {
    Listener::testRunEnded(stats);
    const auto &table = numerics::measured();
    if (table.empty()) return;
    std::printf(
        "Largest errors, %s. In ulp of the arithmetic (f32, or f64 for f64) at the magnitude that "
        "goes into the\n"
        "result; f16 and bf16: what exceeds the rounding to their own dtype, and how many were "
        "rounded otherwise.\n",
        bn2d_simd_target());
    std::printf("%-10s%-24s%10s%8s%12s%14s\n", "dtype", "operation", "ulp", "bound", "elements",
                "misrounded");
    for (const auto &[key, row] : table) {
      std::printf("%-10s%-24s%10.3Lf%8.1Lf%12lld", key.first.c_str(), key.second.c_str(), row.ulps,
                  row.bound, static_cast<long long>(row.elements));
      const bool half = key.first.find("16") != std::string::npos;
      if (half)
        std::printf("%13.4f%%", 100.0 * static_cast<double>(row.misrounded) /
                                    static_cast<double>(row.elements));
      std::printf("\n");
    }
    std::fflush(stdout);
  }
};

CATCH_REGISTER_LISTENER(Report)

}  // namespace
