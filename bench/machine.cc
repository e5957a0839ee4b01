// SPDX-License-Identifier: MIT
#include "machine.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <fstream>
#include <thread>

#include "bn2d/bn2d.h"

namespace bench {
namespace {

std::string first_line(const std::string &path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown CPU";
}

std::vector<std::string> cache_names() {
  std::vector<std::string> names;
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string size = first_line(folder + "size");
    if (size.empty()) break;
    if (first_line(folder + "type") != "Instruction")
      names.push_back("L" + first_line(folder + "level") + " " + size);
  }
  return names;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

Machine this_machine() {
  Machine machine;
  utsname name{};
  if (uname(&name) == 0)
    machine.system = std::string(name.sysname) + " " + name.release + " " + name.machine;
  machine.cpu = cpu_name();
  machine.cpus = static_cast<int>(std::thread::hardware_concurrency());
  machine.caches = cache_names();
  machine.date = utc_now();
  if (getloadavg(&machine.load, 1) != 1) machine.load = 0;
  return machine;
}

std::string simd_class() {
  std::string name = bn2d_simd_target();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (name.compare(0, 4, "avx3") == 0 || name.compare(0, 5, "avx10") == 0) return "avx512";
  return name;
}

std::string program_folder() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  const std::string file(path, length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::size_t slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

}  // namespace bench
