// The message of a failed call of the system.
#pragma once
#include <string>

namespace bn2d::state {

// Error io: "cannot open 'path': No such file or directory". error 0: without a reason of the
// system.
[[noreturn]] void fail_file(const char *what, const std::string &path, int error);

}  // namespace bn2d::state
