// A locale with a decimal comma, whether or not the system has one: the C library's own, made on
// the spot, and the C++ library's. Both are put back at the end.
#pragma once
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <locale>
#include <string>
#include <vector>

namespace bn2d_test {

class CommaLocale {
 public:
  CommaLocale() : cpp_(std::locale()) {
    std::locale::global(std::locale(std::locale::classic(), new Comma));
    for (const char *name :
         {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE", "nl_NL.UTF-8", "pt_BR.UTF-8"}) {
      if (std::setlocale(LC_NUMERIC, name) != nullptr && has_comma()) return;
    }
    make_glibc_locale();
  }
  ~CommaLocale() {
    std::setlocale(LC_NUMERIC, "C");
    std::locale::global(cpp_);
    if (folder_.empty()) return;
    unsetenv("LOCPATH");
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  CommaLocale(const CommaLocale &) = delete;
  CommaLocale &operator=(const CommaLocale &) = delete;

  // Whether printf and strtod use a comma now.
  static bool has_comma() {
    char text[16];
    (void)std::snprintf(text, sizeof text, "%.1f", 0.5);
    return std::string(text) == "0,5";
  }

 private:
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };

  // glibc reads <LOCPATH>/<name>/LC_NUMERIC: magic, number of fields, their offsets, the fields.
  void make_glibc_locale() {
    std::string name = std::filesystem::temp_directory_path() / "bn2d_comma_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) return;
    folder_ = name;
    std::error_code error;
    std::filesystem::create_directory(folder_ / "bn2d_comma", error);
    if (error) return;
    const std::vector<std::string> fields = {std::string(",\0", 2),     std::string(".\0", 2),
                                             std::string("\3\3\0", 3),  std::string(",\0\0\0", 4),
                                             std::string(".\0\0\0", 4), std::string("UTF-8\0", 6)};
    std::vector<uint32_t> head = {0x20031115u ^ LC_NUMERIC, static_cast<uint32_t>(fields.size())};
    std::string body;
    const size_t start = (head.size() + fields.size()) * sizeof(uint32_t);
    for (const std::string &field : fields) {
      while (body.size() % 4 != 0) body += '\0';
      head.push_back(static_cast<uint32_t>(start + body.size()));
      body += field;
    }
    {
      std::ofstream file(folder_ / "bn2d_comma" / "LC_NUMERIC", std::ios::binary);
      file.write(reinterpret_cast<const char *>(head.data()), static_cast<std::streamsize>(start));
      file << body;
    }
    setenv("LOCPATH", folder_.c_str(), 1);
    (void)std::setlocale(LC_NUMERIC, "bn2d_comma");
  }

  std::locale cpp_;
  std::filesystem::path folder_;
};

}  // namespace bn2d_test
