// Every metric there is: what docs/metrics.md lists, and what the pages are made from.
#pragma once

#include <array>
#include <cstdint>

#include "absl/types/span.h"

namespace moed {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };
const char* MetricTypeName(MetricType type);  // "counter", ...

// Where a metric is found.
enum class MetricPage : uint8_t { kMain, kExperts };

// In the order of the catalog.
enum class MetricId : uint8_t {
  // Requests.
  kRequestsWaiting,
  kRequestsRunning,
  kRequestsAccepted,
  kRequests,
  kRequestsRejected,
  kCalls,
  kPromptTokens,
  kGenerationTokens,
  kCachedTokens,
  kRecomputedTokens,
  kPreemptions,
  kClientCancellations,
  kSlowReaderEvictions,
  // Latency.
  kTimeToFirstToken,
  kInterTokenLatency,
  kRequestDuration,
  kQueueDuration,
  kStepDuration,
  kStepTokens,
  kEngineTurn,
  // Memory.
  kKvCacheUsage,
  kKvBlocks,
  kDeviceMemory,
  // Ranks.
  kRankUp,
  kRankSteps,
  kRankCompute,
  kRankCollectiveWait,
  kRankRoutedTokens,
  kExchangeBytes,
  // Experts.
  kExpertTokens,
  kExpertPlacement,
  kExpertSeriesOmitted,
  kExpertDroppedTokens,
  kLayerExpertTokens,
  kLayerWindowTokens,
  kLayerMaxOverMean,
  kLayerGini,
  kLayerEntropy,
  kLayerDead,
  kLayerRepetition,
  kRandomRepetition,
  kLoadWindow,
  // The daemon.
  kReady,
  kPhase,
  kLoadProgress,
  kBuildInfo,
  kModelInfo,
  kReloads,
  kCertificateExpiry,
  kConnectionWaits,
  // The process.
  kProcessCpu,
  kProcessResidentMemory,
  kProcessOpenFds,
  kProcessMaxFds,
  kProcessStartTime,
};
inline constexpr int kNumMetrics = static_cast<int>(MetricId::kProcessStartTime) + 1;

inline constexpr int kMaxMetricLabels = 7;

// Texts are ASCII of one line: prometheus-cpp writes them as they are.
struct MetricDefinition {
  MetricId id;
  const char* section;  // of docs/metrics.md
  const char* name;
  MetricType type;
  const char* unit;
  MetricPage page;
  const char* help;
  std::array<const char*, kMaxMetricLabels> labels = {};  // those that are not null

  int num_labels() const;
};

// [kNumMetrics], definition i of MetricId(i).
absl::Span<const MetricDefinition> MetricCatalog();
const MetricDefinition& Definition(MetricId id);

// Upper bounds of histograms, in seconds; steps have theirs in runtime/engine/step_statistics.h.
// Those of vLLM's time_to_first_token_seconds (vllm/v1/metrics/loggers.py).
inline constexpr std::array<double, 22> kFirstTokenBounds = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
// Those of SGLang's inter_token_latency_seconds (python/sglang/srt/metrics/collector.py).
inline constexpr std::array<double, 23> kInterTokenBounds = {
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06,
    0.08,  0.1,   0.2,   0.4,   0.6,  0.8,   1,    2,     4,    6,     8};
// Those of vLLM's e2e_request_latency_seconds, and below them what small models need.
inline constexpr std::array<double, 25> kRequestDurationBounds = {
    0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5,  5,   10,
    15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
inline constexpr std::array<double, 17> kQueueDurationBounds = {
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800};

}  // namespace moed
