// After all tests of the program: the table of kernels with how often each has run. One that never
// ran fails the program, for then nothing shows that it works.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_host/known_kernels.h"
#include "tests/cuda_host/launch_log.h"

namespace moed::cuda_host {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Launches = std::map<std::string, int64_t>;  // by kernel

std::vector<std::string> NeverLaunched(const std::vector<std::string>& known,
                                       const Launches& launches) {
  std::vector<std::string> never;
  for (const std::string& kernel : known) {
    const auto found = launches.find(kernel);
    if (found == launches.end() || found->second == 0) never.push_back(kernel);
  }
  return never;
}

// What MOED_LAUNCH was given that is no kernel's own name. `known` is sorted.
std::vector<std::string> Unknown(const std::vector<std::string>& known, const Launches& launches) {
  std::vector<std::string> unknown;
  for (const auto& [kernel, count] : launches) {
    if (!std::binary_search(known.begin(), known.end(), kernel)) unknown.push_back(kernel);
  }
  return unknown;
}

TEST(EveryKernelRanTest, NamesAKernelThatWasNeverLaunched) {
  const std::vector<std::string> known = {"EmbedKernel", "ForgottenKernel", "RmsNormKernel"};
  EXPECT_THAT(NeverLaunched(known, {{"EmbedKernel", 1}, {"RmsNormKernel", 7}}),
              ElementsAre("ForgottenKernel"));
  EXPECT_THAT(
      NeverLaunched(known, {{"EmbedKernel", 1}, {"ForgottenKernel", 0}, {"RmsNormKernel", 7}}),
      ElementsAre("ForgottenKernel"));
  EXPECT_THAT(
      NeverLaunched(known, {{"EmbedKernel", 1}, {"ForgottenKernel", 1}, {"RmsNormKernel", 7}}),
      IsEmpty());
}

TEST(EveryKernelRanTest, NamesALaunchThatIsOfNoKernel) {
  const std::vector<std::string> known = {"EmbedKernel", "RmsNormKernel"};
  EXPECT_THAT(Unknown(known, {{"EmbedKernel", 1}, {"kernel", 2}}), ElementsAre("kernel"));
  EXPECT_THAT(Unknown(known, {{"EmbedKernel", 1}, {"RmsNormKernel", 0}}), IsEmpty());
}

TEST(EveryKernelRanTest, TheKernelsOfTheBuildAreSortedAndNotNone) {
  const std::vector<std::string> known = KnownKernels();
  EXPECT_TRUE(std::is_sorted(known.begin(), known.end()));
  EXPECT_THAT(known, Contains("RmsNormKernel"));
}

class EveryKernelRan : public testing::Environment {
 public:
  void TearDown() override {
    const std::vector<std::string> known = KnownKernels();
    Launches launches = TotalLaunchCounts();
    EXPECT_THAT(Unknown(known, launches), IsEmpty()) << "is what MOED_LAUNCH was given";
    const testing::UnitTest& program = *testing::UnitTest::GetInstance();
    const bool all_ran =
        program.test_to_run_count() + program.disabled_test_count() == program.total_test_count();
    if (all_ran) {
      EXPECT_THAT(NeverLaunched(known, launches), IsEmpty()) << "is what these tests never launch";
    }
    std::printf("%-32s %10s\n", "kernel", "launches");
    for (const std::string& kernel : known) {
      std::printf("%-32s %10lld\n", kernel.c_str(), static_cast<long long>(launches[kernel]));
    }
  }
};

const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new EveryKernelRan);

}  // namespace
}  // namespace moed::cuda_host
