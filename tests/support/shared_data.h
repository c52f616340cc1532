// Where tests find inputs that are not part of the repository, and how they skip without them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

namespace moed {

// The directory of shared test data: $MOED_SHARED_DATA when set, else ../shared/data beside the
// source tree. It need not exist.
inline std::string SharedDataDir() {
  const char* from_environment = std::getenv("MOED_SHARED_DATA");
  if (from_environment != nullptr && *from_environment != '\0') return from_environment;
  return std::string(MOED_SOURCE_DIR) + "/../shared/data";
}

// The path of one shared file or directory, `relative` to SharedDataDir().
inline std::string SharedDataPath(const std::string& relative) {
  return SharedDataDir() + "/" + relative;
}

inline bool HasSharedData(const std::string& relative) {
  std::error_code ignored;
  return std::filesystem::exists(SharedDataPath(relative), ignored);
}

}  // namespace moed

// Skips the calling test where the shared file or directory is absent, naming it. Works in a test
// body and in SetUp().
#define MOED_SKIP_WITHOUT_SHARED_DATA(relative)                                 \
  if (!::moed::HasSharedData(relative))                                         \
  GTEST_SKIP() << "no shared test data at " << ::moed::SharedDataPath(relative) \
               << "; set MOED_SHARED_DATA to the directory that holds it"
