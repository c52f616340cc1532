// A prompt of 32,768 tokens in chunks, against data/long_context.json: NumPy in float64, by
// long_context_reference.py.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_model.h"
#include "tests/support/model_harness.h"

namespace moed {
namespace {

// The prompt of long_context_reference.py.
std::vector<int32_t> LongPrompt(int64_t num_tokens) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < num_tokens; ++i) {
    const uint32_t hashed = static_cast<uint32_t>(static_cast<uint64_t>(i) * 2654435761U);
    tokens.push_back(3 + static_cast<int32_t>((hashed >> 8) % 31997));
  }
  tokens[0] = 1;
  return tokens;
}

struct Deviation {
  double worst = 0;
  std::string place = "nowhere";

  void Compare(double actual, double expected, const std::string& where) {
    const double difference = Distance(actual, expected);
    if (difference <= worst) return;
    worst = difference;
    place = where + ": " + std::to_string(actual) + " for " + std::to_string(expected);
  }
};

// Runs the prompt up to and with the last of `positions` and compares the logits there.
void ExpectLogitsMatch(CpuIsa isa, DType dtype, const std::vector<int32_t>& positions,
                       double tolerance) {
  const nlohmann::json expected = ReadGoldenJson("long_context.json");
  HarnessOptions options = TinyModel().Options(isa, dtype);
  options.num_threads = 2;
  options.num_kv_blocks = 2048;
  options.max_sequences = 1;
  options.max_rows = 600;
  options.capture_logits = true;
  HarnessRequest request;
  request.prompt = LongPrompt(positions.back() + 1);
  // Ends nowhere near a block or one of the positions; and its 1200 choices of an expert are more
  // than one pass of the fast kernels takes.
  request.chunk_tokens = 600;
  request.logit_positions = positions;
  request.init.sampling.temperature = 0;
  auto harness = ModelHarness::Create(options);
  ASSERT_TRUE(harness.ok()) << harness.status();
  const auto run = (*harness)->Run({request});
  ASSERT_TRUE(run.ok()) << run.status();

  size_t num_compared = 0;
  for (const nlohmann::json& entry : expected.at("expected")) {
    const int32_t position = entry.at("position");
    if (run->outputs[0].logits.count(position) == 0) continue;
    ++num_compared;
    const std::vector<float>& logits = run->outputs[0].logits.at(position);
    Deviation deviation;
    for (size_t i = 0; i < entry.at("top_ids").size(); ++i) {
      const size_t id = entry.at("top_ids")[i];
      deviation.Compare(logits[id], entry.at("top_logits")[i], "id " + std::to_string(id));
    }
    for (size_t i = 0; i < entry.at("every_16th_logit").size(); ++i) {
      deviation.Compare(logits[16 * i], entry.at("every_16th_logit")[i],
                        "id " + std::to_string(16 * i));
    }
    EXPECT_LE(deviation.worst, tolerance)
        << "position " << position << ", worst at " << deviation.place;
    testing::Test::RecordProperty("worst_at_" + std::to_string(position),
                                  std::to_string(deviation.worst));
  }
  EXPECT_EQ(num_compared, positions.size());
}

TEST(LongContextTest, FastestKernelsMatchFloat64AfterTheWholeContext) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "32,768 tokens take minutes under a sanitizer";
#endif
  const CpuIsa isa = CpuSupports(CpuIsa::kAvx512Bf16) ? CpuIsa::kAvx512Bf16 : CpuIsa::kPortable;
  ExpectLogitsMatch(isa, DType::kFloat32, {4095, 32767}, 1e-4);
}

TEST(LongContextTest, PortableKernelsMatchFloat64After4096Tokens) {
  ExpectLogitsMatch(CpuIsa::kPortable, DType::kFloat32, {4095}, 1e-4);
}

TEST(LongContextTest, Bfloat16StaysNearFloat64After4096Tokens) {
  const CpuIsa isa = CpuSupports(CpuIsa::kAvx512Bf16) ? CpuIsa::kAvx512Bf16 : CpuIsa::kPortable;
  ExpectLogitsMatch(isa, DType::kBFloat16, {4095}, 0.06);
}

}  // namespace
}  // namespace moed
