# oneTBB and Highway. A project that bn2d is part of may have made their targets already: then those are taken, and their
# packages are not looked for, which could fail where a target has been made twice.
if(NOT TARGET TBB::tbb)
  find_package(TBB REQUIRED)
endif()
find_package(Threads REQUIRED)

if(NOT TARGET hwy::hwy AND TARGET hwy) # Highway as part of the same project
  add_library(hwy::hwy ALIAS hwy)
elseif(NOT TARGET hwy::hwy)
  find_package(hwy CONFIG QUIET)
  if(NOT TARGET hwy::hwy)
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
    add_library(hwy::hwy ALIAS PkgConfig::hwy)
  endif()
endif()
