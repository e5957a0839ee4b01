# conan create cmake/packaging/conan
import os

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy
from conan.tools.gnu import PkgConfigDeps

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")


class Bn2d(ConanFile):
    name = "bn2d"
    version = "1.3.0"
    description = "Batch normalisation for the CPU behind a stable C ABI"
    license = "MIT"
    settings = "os", "compiler", "build_type", "arch"
    options = {name: [True, False] for name in ("shared", "with_state", "with_fold")}
    default_options = {
        "shared": True,
        "with_state": False,  # libbn2d_state: state files
        "with_fold": False,  # libbn2d_fold: folding
        "onetbb/*:shared": True,
    }
    requires = "onetbb/[>=2021.4]", "highway/[>=1.0.3]"

    def requirements(self):
        if self.options.with_state:
            self.requires("nlohmann_json/[>=3.9]")
        if self.options.with_fold:
            self.requires("openblas/[>=0.3]")

    def export_sources(self):
        for pattern in (
            "CMakeLists.txt",
            "LICENSE",
            "README.md",
            "src/*",
            "capi/*",
            "include/*",
            "cmake/*",
        ):
            copy(self, pattern, ROOT, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        PkgConfigDeps(self).generate()  # Highway and OpenBLAS are found by libhwy.pc, openblas.pc
        toolchain = CMakeToolchain(self)  # sets BUILD_SHARED_LIBS
        toolchain.cache_variables.update(
            BN2D_DEVELOPER_MODE=False,
            BN2D_WERROR=False,
            BN2D_STATE=bool(self.options.with_state),
            BN2D_FOLD=bool(self.options.with_fold),
        )
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.libs = ["bn2d"]
        self.cpp_info.requires = ["onetbb::libtbb", "highway::highway"]
        if self.options.with_state:
            self.cpp_info.libs.insert(0, "bn2d_state")
            self.cpp_info.requires.append("nlohmann_json::nlohmann_json")
        if self.options.with_fold:
            self.cpp_info.libs.insert(0, "bn2d_fold")
            self.cpp_info.requires.append("openblas::openblas")
        if not self.options.shared:
            self.cpp_info.system_libs = ["stdc++", "m", "pthread", "dl"]
            # A plugin exports nothing of its copy.
            archives = ":".join(f"lib{name}.a" for name in self.cpp_info.libs)
            self.cpp_info.sharedlinkflags = [f"-Wl,--exclude-libs,{archives}"]
