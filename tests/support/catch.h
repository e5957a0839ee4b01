// The test framework, whichever major version the system has: 2 (Debian 12) or 3 (newer).
#pragma once
#ifdef BN2D_CATCH2_V3
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
