# Standard, Abseil and test headers, parsed once for all files that want them. scripts/test asks for
# it: most of what a small file costs is its headers. A file that leans on it for an #include that it
# lacks fails elsewhere: the product in the clang stage, tests in a build without the option.
option(MOED_PCH "Precompile headers that most files include (quicker cold builds)" OFF)
if(NOT MOED_PCH)
  function(moed_precompiled target kind)
  endfunction()
  return()
endif()

set(MOED_PCH_LIBRARY
  <algorithm> <atomic> <cmath> <condition_variable> <cstdint> <functional> <limits> <memory> <mutex>
  <optional> <string> <utility> <vector>
  <absl/container/flat_hash_map.h> <absl/status/statusor.h> <absl/strings/str_cat.h>
  <absl/types/span.h>)
set(MOED_PCH_TEST
  ${MOED_PCH_LIBRARY} <array> <chrono> <filesystem> <fstream> <map> <numeric> <random> <set> <thread>
  <gmock/gmock.h> <gtest/gtest.h>)
set(MOED_PCH_GRPC ${MOED_PCH_LIBRARY} <grpcpp/grpcpp.h>)

# Some packages ask for -pthread, which defines a macro: a precompiled header needs it in all or none.
add_compile_options(-pthread)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  add_compile_options(-fpch-preprocess)  # for ccache
endif()

# moed_precompiled(TARGET LIBRARY|TEST|GRPC): the first target of a kind makes it, the others use it.
# Flags must be equal, so what a folder adds to them makes it a kind of its own.
function(moed_precompiled target kind)
  get_directory_property(options COMPILE_OPTIONS)
  string(MD5 key "${kind} ${options}")
  get_property(owner GLOBAL PROPERTY MOED_PCH_OWNER_${key})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${MOED_PCH_${kind}})
    set_property(GLOBAL PROPERTY MOED_PCH_OWNER_${key} ${target})
  endif()
endfunction()
