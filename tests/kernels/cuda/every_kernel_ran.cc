// After all tests of the program: the table of kernels with how often each has run. One that never
// ran fails the program, for then nothing shows that it works.
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cuda_host/known_kernels.h"
#include "tests/cuda_host/launch_log.h"

namespace moed::cuda_host {
namespace {

class EveryKernelRan : public testing::Environment {
 public:
  void TearDown() override {
    const std::map<std::string, int64_t> counts = TotalLaunchCounts();
    const std::vector<std::string> known = KnownKernels();
    const testing::UnitTest& program = *testing::UnitTest::GetInstance();
    const bool all_ran =
        program.test_to_run_count() + program.disabled_test_count() == program.total_test_count();
    std::printf("%-32s %10s\n", "kernel", "launches");
    for (const std::string& kernel : known) {
      const auto found = counts.find(kernel);
      const int64_t launches = found == counts.end() ? 0 : found->second;
      std::printf("%-32s %10lld\n", kernel.c_str(), static_cast<long long>(launches));
      if (all_ran) {
        EXPECT_GT(launches, 0) << kernel << " was never launched by these tests";
      }
    }
    for (const auto& [kernel, launches] : counts) {
      EXPECT_TRUE(std::binary_search(known.begin(), known.end(), kernel))
          << "MOED_LAUNCH was given \"" << kernel << "\", which is no kernel's own name";
    }
  }
};

const testing::Environment* const environment =
    testing::AddGlobalTestEnvironment(new EveryKernelRan);

}  // namespace
}  // namespace moed::cuda_host
