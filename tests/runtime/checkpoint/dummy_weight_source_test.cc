#include "runtime/checkpoint/dummy_weight_source.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/float_types.h"

namespace moed {
namespace {

std::vector<float> Load(DummyWeightSource& source, const std::string& name,
                        const std::vector<int64_t>& shape) {
  const auto tensor = source.Load(name, shape);
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  const float* data = tensor->view.data<float>();
  return std::vector<float>(data, data + tensor->view.num_elements());
}

TEST(DummyWeightSource, DependsOnSeedNameAndPlaceOnly) {
  DummyWeightSource source(3, DType::kFloat32);
  DummyWeightSource same(3, DType::kFloat32);
  DummyWeightSource other(4, DType::kFloat32);
  const std::vector<float> first = Load(source, "a.weight", {5, 7});
  Load(same, "b.weight", {100});
  EXPECT_EQ(Load(same, "a.weight", {5, 7}), first);
  EXPECT_EQ(Load(same, "a.weight", {35}), first);
  EXPECT_NE(Load(other, "a.weight", {5, 7}), first);
  EXPECT_NE(Load(source, "b.weight", {5, 7}), first);
}

TEST(DummyWeightSource, IsTheSameOnEveryMachine) {
  DummyWeightSource source(0, DType::kFloat32);
  const std::vector<float> values = Load(source, "model.embed_tokens.weight", {3});
  // Computed by hand from the published SplitMix64 and FNV-1a: sums of four 16-bit lanes, centred.
  const auto scale = static_cast<float>(0.02 / 37837.22709);
  EXPECT_EQ(values, (std::vector<float>{9523 * scale, 32737 * scale, -6859 * scale}));
}

TEST(DummyWeightSource, IsNearlyNormalWithDeviation002) {
  DummyWeightSource source(1, DType::kFloat32);
  const std::vector<float> values = Load(source, "a.weight", {1000, 1000});
  double sum = 0;
  double squares = 0;
  int64_t beyond_two = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
    if (std::abs(value) > 0.04F) ++beyond_two;
  }
  const double count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0, 0.02 * 4 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.0001);
  // 4.6 % for a normal distribution, 4.3 % for a sum of four uniforms.
  EXPECT_NEAR(static_cast<double>(beyond_two) / count, 0.045, 0.005);
}

TEST(DummyWeightSource, MakesNormWeightsOne) {
  DummyWeightSource source(1, DType::kFloat32);
  for (const std::string name : {"model.norm.weight", "model.layers.0.input_layernorm.weight"}) {
    EXPECT_THAT(Load(source, name, {9}), testing::Each(1.0F)) << name;
  }
}

TEST(DummyWeightSource, RoundsToBFloat16) {
  DummyWeightSource exact(5, DType::kFloat32);
  DummyWeightSource rounded(5, DType::kBFloat16);
  const std::vector<float> values = Load(exact, "a", {64});
  const auto tensor = rounded.Load("a", {64});
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(tensor->view.data<BFloat16>()[i].bits, ToBFloat16(values[i]).bits) << i;
  }
}

TEST(DummyWeightSource, ServesManyThreads) {
  DummyWeightSource source(1, DType::kFloat32);
  const std::vector<float> expected = Load(source, "a", {1000});
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& values : found) {
    threads.emplace_back([&] { values = Load(source, "a", {1000}); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& values : found) EXPECT_EQ(values, expected);
}

TEST(DummyWeightSource, RefusesShapesThatCannotBe) {
  DummyWeightSource source(1, DType::kFloat32);
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{
           {}, {0}, {-1}, {int64_t{1} << 40, int64_t{1} << 40}, {1, 1, 1, 1, 1}}) {
    EXPECT_EQ(source.Load("a", shape).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace moed
