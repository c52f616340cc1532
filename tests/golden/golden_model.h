// The models of the golden tests, and where they lie.
#pragma once

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/dummy_weight_source.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/weight_source.h"
#include "tests/support/model_harness.h"

namespace moed {

// Whether ThreadSanitizer is at work, which slows everything twentyfold.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kWatchesThreads = true;
#elif defined(__has_feature)
inline constexpr bool kWatchesThreads = __has_feature(thread_sanitizer);
#else
inline constexpr bool kWatchesThreads = false;
#endif

// Whether AddressSanitizer is at work, which slows everything a few times.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kWatchesMemory = true;
#elif defined(__has_feature)
inline constexpr bool kWatchesMemory = __has_feature(address_sanitizer);
#else
inline constexpr bool kWatchesMemory = false;
#endif

struct GoldenModel {
  std::string name;
  ModelConfig config;
  std::shared_ptr<WeightSource> weights;

  // A run of this model; the rest of the options is the caller's.
  HarnessOptions Options(CpuIsa isa, DType dtype) const {
    HarnessOptions options;
    options.config = config;
    options.weights = weights;
    options.isa = isa;
    options.dtype = dtype;
    return options;
  }
};

inline std::string GoldenDataPath(const std::string& relative) {
  return std::string(MOED_SOURCE_DIR) + "/tests/golden/data/" + relative;
}

inline GoldenModel OpenGoldenModel(const std::string& name, const std::string& directory) {
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(directory, {});
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return {};
  return {name, checkpoint->metadata.config, std::move(checkpoint->weights)};
}

// Seeded random weights, 2 layers, with expectations of two independent programs.
inline GoldenModel TinyModel() { return OpenGoldenModel("tiny", GoldenDataPath("tiny")); }

// The trained model that the demonstration serves.
inline GoldenModel DemoModel() {
  return OpenGoldenModel("demo", std::string(MOED_SOURCE_DIR) + "/models/demo");
}

// Odd in every dimension that kernels cut into tiles.
inline GoldenModel OddDummyModel() {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.vocab_size = 515;
  config.hidden = 72;
  config.ffn = 40;
  config.num_layers = 3;
  config.num_heads = 6;
  config.num_kv_heads = 3;
  config.head_dim = 12;
  config.num_experts = 6;
  config.top_k = 3;
  config.max_positions = 512;
  config.rope_theta = 1e6;
  config.rms_epsilon = 1e-5;
  return {"dummy", config, std::make_shared<DummyWeightSource>(/*seed=*/7, DType::kBFloat16)};
}

inline nlohmann::json ReadGoldenJson(const std::string& relative) {
  std::ifstream file(GoldenDataPath(relative));
  EXPECT_TRUE(file) << "no " << GoldenDataPath(relative);
  return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
}

// float32 little-endian, of the whole file; empty when it cannot be read.
inline std::vector<float> ReadFloats(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::vector<float> values(file ? static_cast<size_t>(file.tellg()) / sizeof(float) : 0);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

// |actual - expected|, and infinite where either is not a number: no tolerance lets it pass.
inline double Distance(double actual, double expected) {
  const double difference = std::abs(actual - expected);
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
}

// Under ThreadSanitizer without the plain loops: they take minutes, and run on one thread.
inline std::vector<CpuIsa> SupportedIsas() {
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa : {CpuIsa::kReference, CpuIsa::kPortable, CpuIsa::kAvx512Bf16}) {
    if (kWatchesThreads && isa == CpuIsa::kReference) continue;
    if (CpuSupports(isa)) isas.push_back(isa);
  }
  return isas;
}

// "avx512bf16_bfloat16": part of a test's name.
inline std::string IsaAndDTypeName(CpuIsa isa, DType dtype) {
  return std::string(CpuIsaName(isa)) + "_" + DTypeName(dtype);
}

}  // namespace moed
