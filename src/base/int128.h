// Products of 64-bit numbers that do not overflow.
#pragma once

namespace bn2d {

__extension__ typedef __int128 Int128;  // a word that ISO C++ does not have

}  // namespace bn2d
