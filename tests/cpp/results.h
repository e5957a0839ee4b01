// What results.cc, which is compiled without exceptions, offers to the test that calls it.
#pragma once

namespace bn2d_test {

// The line of the first thing that is wrong, or 0.
int line_without_exceptions();

}  // namespace bn2d_test
