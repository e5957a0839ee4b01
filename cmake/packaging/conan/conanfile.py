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
    options = {"shared": [True, False]}
    default_options = {"shared": True, "onetbb/*:shared": True}
    requires = "onetbb/[>=2021.4]", "highway/[>=1.0.3]"

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
        PkgConfigDeps(self).generate()  # Highway is found by its libhwy.pc
        toolchain = CMakeToolchain(self)  # sets BUILD_SHARED_LIBS
        toolchain.cache_variables.update(BN2D_DEVELOPER_MODE=False, BN2D_WERROR=False)
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
        if not self.options.shared:
            self.cpp_info.system_libs = ["stdc++", "m", "pthread", "dl"]
