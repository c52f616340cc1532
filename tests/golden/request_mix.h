// Random mixes of requests, and the engine that is to serve them: a function of a seed.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/schedule/exchange_policy.h"
#include "runtime/schedule/request.h"

namespace moed {

// What a request's results must not depend on.
struct MixEngine {
  CpuIsa isa = CpuIsa::kPortable;
  DType dtype = DType::kFloat32;
  int num_threads = 1;
  int num_ranks = 1;
  int64_t block_size = 4;
  int64_t num_kv_blocks = 0;  // hardly enough for the longest continuation
  int32_t max_sequences = 4;
  int32_t token_budget = 8;
  int32_t max_gather_rows = 0;
  int32_t max_experts_per_token = 0;
  ExchangeMode exchange = ExchangeMode::kAuto;
  bool prefix_cache = true;
};

struct MixRequest {
  GenerationRequest request;
  uint64_t arrives_in_step = 0;
  std::optional<uint64_t> cancelled_in_step;
};

struct RequestMix {
  MixEngine engine;
  std::vector<MixRequest> requests;  // by step of arrival
};

// A step takes so much of the engine's time.
inline constexpr std::chrono::milliseconds kMixStepTime{10};

// The most positions, continuations and experts per token that a drawn request has.
inline constexpr int32_t kMostMixPositions = 64;
inline constexpr int32_t kMostMixChoices = 4;
inline constexpr int32_t kMostMixExperts = 5;

RequestMix DrawRequestMix(uint64_t seed, const ModelConfig& config);

// For people.
std::string EngineText(const MixEngine& engine);
std::string RequestText(const MixRequest& request);

}  // namespace moed
