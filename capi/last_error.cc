// The message of the last failure, of each thread.
#include <cstring>

#include "guard.h"

namespace bn2d::capi {
namespace {

// Plain bytes: no constructor, no destructor, so that the thread-local variable does not pin the
// library or run code at thread exit.
thread_local char t_last_error[Error::kTextBytes];

// Bytes of the UTF-8 character at `text`; 0 where there is none (RFC 3629: no overlong forms, no
// surrogates).
int utf8_length(const unsigned char *text) {
  const unsigned char lead = text[0];
  const auto continues = [&](int i, unsigned char least, unsigned char most) {
    return text[i] >= least && text[i] <= most;
  };
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned char least = lead == 0xE0 ? 0xA0 : 0x80, most = lead == 0xED ? 0x9F : 0xBF;
    return continues(1, least, most) && continues(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned char least = lead == 0xF0 ? 0x90 : 0x80, most = lead == 0xF4 ? 0x8F : 0xBF;
    return continues(1, least, most) && continues(2, 0x80, 0xBF) && continues(3, 0x80, 0xBF) ? 4
                                                                                             : 0;
  }
  return 0;
}

}  // namespace

// One line of UTF-8, whatever a caller's name for an option brought into it, and whole characters
// where it was cut.
int32_t report(Status status, const char *text) noexcept {
  size_t out = 0;
  for (const auto *in = reinterpret_cast<const unsigned char *>(text); *in != 0;) {
    const int length = utf8_length(in);
    const bool printable = length > 1 || (length == 1 && *in >= 0x20 && *in != 0x7F);
    const size_t bytes = printable ? static_cast<size_t>(length) : 1;
    if (out + bytes > sizeof t_last_error - 1) break;
    if (printable) {
      std::memcpy(t_last_error + out, in, bytes);
    } else {
      t_last_error[out] = '?';
    }
    out += bytes;
    in += bytes;
  }
  t_last_error[out] = '\0';
  return static_cast<int32_t>(status);
}

const char *last_error() noexcept { return t_last_error; }

}  // namespace bn2d::capi
