#!/bin/sh
# What README.md shows besides whole programs: its lines compile, and its messages are those of the library.
. "$(dirname "$0")/common.sh"
need pkg-config
work_in readme
readme=$BN2D_SOURCE/README.md
strict='-Wall -Wextra -pedantic -Werror'
export LD_LIBRARY_PATH="$BN2D_STAGE/$BN2D_LIBDIR${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# The line for pkg-config, as it stands there, with a program of that name.
marked pkg_config.sh sh "$readme"
cp "$BN2D_SOURCE/capi/examples/quickstart.c" program.c
mkdir bin
printf '#!/bin/sh\nexec "%s" "$@"\n' "$CC" >bin/cc
chmod +x bin/cc
PATH="$PWD/bin:$PATH" PKG_CONFIG_PATH="$BN2D_STAGE/$BN2D_LIBDIR/pkgconfig" sh -eu pkg_config.sh
./a.out

# The two ways in for CMake, configured as they stand there: the installed package, and a copy of the checkout.
project() { # NAME
  marked "$1.cmake" cmake "$readme"
  mkdir "$1"
  cp program.c "$1"
  { printf 'cmake_minimum_required(VERSION 3.20)\nproject(host LANGUAGES C CXX)\nadd_executable(program program.c)\n' && cat "$1.cmake"; } >"$1/CMakeLists.txt"
}
project find_package
"$CMAKE" -S find_package -B find_package/build -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$BN2D_STAGE" >cmake.log
"$CMAKE" --build find_package/build >>cmake.log
./find_package/build/program
project subdirectory
ln -s "$BN2D_SOURCE" subdirectory/bn2d # subproject.sh builds such a host; here its two lines are read
"$CMAKE" -S subdirectory -B subdirectory/build -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" >cmake.log || {
  cat cmake.log
  fail 'the host cannot be configured'
}

# The host's threads.
marked threads.c c "$readme"
{
  printf '#include <bn2d/bn2d.h>\n#include <stdio.h>\nint main(void) {\n'
  cat threads.c
  printf 'return bn2d_get_thread_pool();\n}\n'
} >threads_c.c
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" -std=c99 $strict threads_c.c $(bn2d_pkg_config --cflags --libs) -o threads_c
status=0
./threads_c 2>message || status=$?
# Nothing in this program has loaded an OpenMP runtime: the line says so, and oneTBB (1) stays.
if [ "$status" != 1 ] || ! grep -q 'OpenMP' message; then fail "threads.c: pool $status, $(cat message)"; fi

marked threads.cpp cpp "$readme"
cat >threads_cpp.cpp <<'END'
#include <bn2d/bn2d.hpp>
#include <atomic>
#include <cstdio>
#include <thread>

struct MyPool {
  std::atomic<int> asked{0};
  int size() const { return 4; }
  template <class F>
  void parallel_for(int begin, int end, F f) {
    ++asked;
    std::vector<std::thread> all;
    for (int i = begin; i < end; ++i) all.emplace_back(f, i);
    for (std::thread &t : all) t.join();
  }
};

std::vector<float> train() {
  std::vector<float> x(8 * 64 * 32 * 32), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 251);
  const bn2d::Shape shape{8, 64, 32, 32};
  bn2d::Module(64).forward({x, shape}, {y, shape});
  return y;
}

int main() {
  MyPool my_pool;
  const auto want = train();
END
{
  cat threads.cpp
  printf '  if (train() != want) return puts("other bits"), 1;\n'
  printf '  return my_pool.asked > 0 ? 0 : (puts("the pool was not asked"), 1);\n}\n'
} >>threads_cpp.cpp
# shellcheck disable=SC2046,SC2086 # lists of words
"$CXX" -std=c++17 $strict threads_cpp.cpp $(bn2d_pkg_config --cflags --libs) -pthread -o threads_cpp
./threads_cpp

# The messages, but for the addresses.
marked errors.txt text "$readme"
cat >errors.cpp <<'END'
#include <bn2d/bn2d.hpp>
#include <cstdio>

template <class F>
void failing(const F &f) {
  try {
    f();
  } catch (const bn2d::Error &error) {
    std::puts(error.what());
  }
}

int main() {
  std::vector<float> x(64 * 4), y(64 * 4);
  std::vector<double> wide(64 * 4);
  bn2d::Module bn(64), three(3);
  const bn2d::Shape shape{1, 64, 2, 2};
  failing([&] { bn.forward({x, {1, 3, 2, 2}}, {y, {1, 3, 2, 2}}); });
  failing([&] { bn.forward({x.data(), shape}, {x.data() + 4, shape}); });
  failing([&] { three.forward({x, {1, 3, 1, 1}}, {y, {1, 3, 1, 1}}); });
  failing([&] { bn.forward({wide, shape}, {y, shape}); });
}
END
# shellcheck disable=SC2046,SC2086 # lists of words
"$CXX" -std=c++17 $strict errors.cpp $(bn2d_pkg_config --cflags --libs) -o errors
./errors | sed 's/0x[0-9a-f]*/0x/g' >told
sed 's/0x[0-9a-f]*/0x/g' errors.txt | diff - told || fail 'README.md shows other messages (<) than the library gives (>)'

# The packages that README.md asks for are those that bootstrap.sh installs.
sed -n 's/^apt-get install -y //p' "$readme" | tr ' ' '\n' >packages
[ -s packages ] || fail 'README.md names no packages'
while read -r name; do
  awk -v name="$name" '$1 ~ /package$/ && $2 == name { found = 1 } END { exit !found }' "$BN2D_SOURCE/cmake/bootstrap.sh" ||
    fail "bootstrap.sh does not install $name, which README.md names"
done <packages
