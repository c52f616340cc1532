#include "server/metrics/catalog.h"

namespace moed {
namespace {

using enum MetricType;
using enum MetricPage;

constexpr char kRequestsSection[] = "Requests";
constexpr char kLatencySection[] = "Latency";
constexpr char kMemorySection[] = "Memory";
constexpr char kRanksSection[] = "Ranks";
constexpr char kExpertsSection[] = "Experts";
constexpr char kDaemonSection[] = "The daemon";
constexpr char kProcessSection[] = "The process";

constexpr MetricDefinition kCatalog[] = {
    {MetricId::kRequestsWaiting, kRequestsSection, "moed_requests_waiting", kGauge, "continuations",
     kMain, "Continuations in the queue; one for a request whose prompt is not computed."},
    {MetricId::kRequestsRunning, kRequestsSection, "moed_requests_running", kGauge, "continuations",
     kMain, "Continuations that have a place in the steps."},
    {MetricId::kRequestsAccepted, kRequestsSection, "moed_requests_accepted_total", kCounter,
     "requests", kMain,
     "Generation requests that the engine took. Those that have ended since are in "
     "moed_requests_total; the difference waits or runs."},
    {MetricId::kRequests,
     kRequestsSection,
     "moed_requests_total",
     kCounter,
     "requests",
     kMain,
     "Accepted requests that have ended, by status code. finish_reason is stop, length or "
     "time_limit (of the last continuation), or aborted where the code is not OK.",
     {"code", "finish_reason"}},
    {MetricId::kRequestsRejected,
     kRequestsSection,
     "moed_requests_rejected_total",
     kCounter,
     "requests",
     kMain,
     "Generation requests that the engine never took, by the reason that the client got "
     "(docs/errors.md) or, where there is none, by the status code, in lower case.",
     {"reason"}},
    {MetricId::kCalls,
     kRequestsSection,
     "moed_calls_total",
     kCounter,
     "calls",
     kMain,
     "Calls that have ended, of every method, by status code; shows who is refused for a missing "
     "key where nothing is generated.",
     {"method", "code"}},
    {MetricId::kPromptTokens, kRequestsSection, "moed_prompt_tokens_total", kCounter, "tokens",
     kMain, "Tokens of prompts that were scheduled, once each, cached ones included."},
    {MetricId::kGenerationTokens, kRequestsSection, "moed_generation_tokens_total", kCounter,
     "tokens", kMain, "Generated tokens that were handed out."},
    {MetricId::kCachedTokens, kRequestsSection, "moed_cached_tokens_total", kCounter, "tokens",
     kMain, "Tokens of prompts that were taken from the prefix cache instead of computed."},
    {MetricId::kRecomputedTokens, kRequestsSection, "moed_recomputed_tokens_total", kCounter,
     "tokens", kMain,
     "Tokens that were computed again after a preemption: what a KV cache too small costs."},
    {MetricId::kPreemptions, kRequestsSection, "moed_preemptions_total", kCounter, "preemptions",
     kMain, "Continuations that had to give their KV blocks to others."},
    {MetricId::kClientCancellations, kRequestsSection, "moed_client_cancellations_total", kCounter,
     "requests", kMain, "Accepted requests whose client cancelled or went away."},
    {MetricId::kSlowReaderEvictions, kRequestsSection, "moed_slow_reader_evictions_total", kCounter,
     "requests", kMain,
     "Accepted requests that were cut off because the client did not read its stream."},

    {MetricId::kTimeToFirstToken, kLatencySection, "moed_time_to_first_token_seconds", kHistogram,
     "seconds", kMain, "From the engine's acceptance of a request to its first token."},
    {MetricId::kInterTokenLatency, kLatencySection, "moed_inter_token_latency_seconds", kHistogram,
     "seconds", kMain, "Between consecutive tokens of a continuation."},
    {MetricId::kRequestDuration, kLatencySection, "moed_request_duration_seconds", kHistogram,
     "seconds", kMain,
     "From the arrival of an accepted request's call to its end, however it ended."},
    {MetricId::kQueueDuration, kLatencySection, "moed_queue_duration_seconds", kHistogram,
     "seconds", kMain,
     "From the engine's acceptance of a request to its first place in a step, of those whose "
     "generation ended normally."},
    {MetricId::kStepDuration,
     kLatencySection,
     "moed_step_duration_seconds",
     kHistogram,
     "seconds",
     kMain,
     "Steps from launch to answer. phase is decode, prefill or mixed.",
     {"phase"}},
    {MetricId::kStepTokens, kLatencySection, "moed_step_tokens", kHistogram, "tokens", kMain,
     "Rows of a step over all ranks. Its sum is what was computed: times experts per token it is "
     "the sum of moed_expert_tokens_total over a layer's experts."},
    {MetricId::kEngineTurn, kLatencySection, "moed_engine_turn_age_seconds", kGauge, "seconds",
     kMain,
     "How long the engine has been in its present turn, 0 while idle. More than the rank timeout "
     "means that it hangs."},

    {MetricId::kKvCacheUsage, kMemorySection, "moed_kv_cache_usage_ratio", kGauge, "ratio", kMain,
     "Share of the KV blocks of all ranks that requests hold. Cached prefixes count as free."},
    {MetricId::kKvBlocks,
     kMemorySection,
     "moed_kv_blocks",
     kGauge,
     "blocks",
     kMain,
     "KV blocks of a rank. state is used, cached (free, but holding a prefix) or free.",
     {"rank", "state"}},
    {MetricId::kDeviceMemory,
     kMemorySection,
     "moed_device_memory_bytes",
     kGauge,
     "bytes",
     kMain,
     "What a rank has allocated. kind is weights, kv_cache, activations, exchange or workspace.",
     {"rank", "kind"}},

    {MetricId::kRankUp,
     kRanksSection,
     "moed_rank_up",
     kGauge,
     "boolean",
     kMain,
     "1 while the rank can be asked for work. Ranks only work together: when one fails, all show "
     "0, and the log names the one.",
     {"rank"}},
    {MetricId::kRankSteps,
     kRanksSection,
     "moed_rank_steps_total",
     kCounter,
     "steps",
     kMain,
     "Steps that a rank took part in; the divisor for the seconds below.",
     {"rank"}},
    {MetricId::kRankCompute,
     kRanksSection,
     "moed_rank_compute_seconds_total",
     kCounter,
     "seconds",
     kMain,
     "Time that a rank computed. A straggler shows here: steps take as long for the others, but "
     "they wait.",
     {"rank"}},
    {MetricId::kRankCollectiveWait,
     kRanksSection,
     "moed_rank_collective_wait_seconds_total",
     kCounter,
     "seconds",
     kMain,
     "Time that a rank waited for others in exchanges.",
     {"rank"}},
    {MetricId::kRankRoutedTokens,
     kRanksSection,
     "moed_rank_routed_tokens_total",
     kCounter,
     "tokens",
     kMain,
     "Choices of experts for tokens whose home is this rank, over all layers.",
     {"rank"}},
    {MetricId::kExchangeBytes,
     kRanksSection,
     "moed_exchange_bytes_total",
     kCounter,
     "bytes",
     kMain,
     "Bytes that a rank exchanged with others. direction is sent or received.",
     {"rank", "direction"}},

    {MetricId::kExpertTokens,
     kExpertsSection,
     "moed_expert_tokens_total",
     kCounter,
     "tokens",
     kExperts,
     "Tokens that the router of a layer sent to an expert.",
     {"layer", "expert"}},
    {MetricId::kExpertPlacement,
     kExpertsSection,
     "moed_expert_placement_info",
     kGauge,
     "constant",
     kExperts,
     "1: the expert of this layer lives on this rank.",
     {"layer", "expert", "rank"}},
    {MetricId::kExpertSeriesOmitted, kExpertsSection, "moed_expert_series_omitted", kGauge,
     "series", kExperts,
     "Pairs of layer and expert that have no series of their own because the model has more than "
     "2048 of them; 0 where all have one."},
    {MetricId::kExpertDroppedTokens, kExpertsSection, "moed_expert_dropped_tokens_total", kCounter,
     "tokens", kExperts,
     "Choices that were not computed because the expert had reached its capacity; 0 without a "
     "capacity factor."},
    {MetricId::kLayerExpertTokens,
     kExpertsSection,
     "moed_layer_expert_tokens_total",
     kCounter,
     "tokens",
     kExperts,
     "The sum of moed_expert_tokens_total over the experts of a layer; also there where those are "
     "left out.",
     {"layer"}},
    {MetricId::kLayerWindowTokens,
     kExpertsSection,
     "moed_layer_expert_load_window_tokens",
     kGauge,
     "tokens",
     kExperts,
     "Choices that the ratios of the layer are made from. Few tokens are never even: alerts ask "
     "for a thousand.",
     {"layer"}},
    {MetricId::kLayerMaxOverMean,
     kExpertsSection,
     "moed_layer_expert_load_max_over_mean_ratio",
     kGauge,
     "ratio",
     kExperts,
     "Load of the busiest expert over the mean, in the window. 1 is even; with k of n "
     "experts per token it is n/k at most.",
     {"layer"}},
    {MetricId::kLayerGini,
     kExpertsSection,
     "moed_layer_expert_load_gini_ratio",
     kGauge,
     "ratio",
     kExperts,
     "Gini coefficient of the experts' load, in the window. 0 is even.",
     {"layer"}},
    {MetricId::kLayerEntropy,
     kExpertsSection,
     "moed_layer_expert_load_entropy_ratio",
     kGauge,
     "ratio",
     kExperts,
     "Entropy of the experts' shares over that of even ones, in the window. 1 is even, 0 all on "
     "one.",
     {"layer"}},
    {MetricId::kLayerDead,
     kExpertsSection,
     "moed_layer_experts_dead",
     kGauge,
     "experts",
     kExperts,
     "Experts of the layer that no token went to, in the window.",
     {"layer"}},
    {MetricId::kLayerRepetition,
     kExpertsSection,
     "moed_layer_expert_repetition_ratio",
     kGauge,
     "ratio",
     kExperts,
     "How often a token shares an expert with the one before it, in the window. choice is first "
     "(the same first choice) or any (any of the first two).",
     {"layer", "choice"}},
    {MetricId::kRandomRepetition,
     kExpertsSection,
     "moed_expert_repetition_random_ratio",
     kGauge,
     "ratio",
     kExperts,
     "What moed_layer_expert_repetition_ratio would be for a router that draws at random.",
     {"choice"}},
    {MetricId::kLoadWindow, kExpertsSection, "moed_expert_load_window_seconds", kGauge, "seconds",
     kExperts,
     "What the window really covers: less than its 60 s after the start, up to a second more "
     "later."},

    {MetricId::kReady, kDaemonSection, "moed_ready", kGauge, "boolean", kMain,
     "1 while new requests are served."},
    {MetricId::kPhase,
     kDaemonSection,
     "moed_lifecycle_phase",
     kGauge,
     "boolean",
     kMain,
     "1 for the phase the daemon is in: loading, ready, draining, failed or stopped. Tells a drain "
     "from a failure where moed_ready is 0.",
     {"phase"}},
    {MetricId::kLoadProgress,
     kDaemonSection,
     "moed_load_progress_ratio",
     kGauge,
     "ratio",
     kMain,
     "How much of its present phase of loading a rank has done.",
     {"rank", "phase"}},
    {MetricId::kBuildInfo,
     kDaemonSection,
     "moed_build_info",
     kGauge,
     "constant",
     kMain,
     "1: the version that runs.",
     {"version"}},
    {MetricId::kModelInfo,
     kDaemonSection,
     "moed_model_info",
     kGauge,
     "constant",
     kMain,
     "1: the model that is served, once it is loaded.",
     {"model", "architecture", "dtype", "layers", "experts", "experts_per_token", "ranks"}},
    {MetricId::kReloads,
     kDaemonSection,
     "moed_reloads_total",
     kCounter,
     "reloads",
     kMain,
     "Reloads of files while running. what is keys or certificates, result success or failure; "
     "after a failure the old ones stay.",
     {"what", "result"}},
    {MetricId::kCertificateExpiry, kDaemonSection, "moed_certificate_expiry_timestamp_seconds",
     kGauge, "seconds", kMain,
     "When the server's certificate expires, since the epoch. Absent without TLS."},
    {MetricId::kConnectionWaits, kDaemonSection, "moed_connection_waits_total", kCounter, "waits",
     kMain,
     "How often new connections had to wait because --max-connections were open or no file "
     "descriptor was free; once until there was room again."},

    {MetricId::kProcessCpu, kProcessSection, "process_cpu_seconds_total", kCounter, "seconds",
     kMain, "Processor time of the daemon, user and system."},
    {MetricId::kProcessResidentMemory, kProcessSection, "process_resident_memory_bytes", kGauge,
     "bytes", kMain, "Memory of the daemon that is resident."},
    {MetricId::kProcessOpenFds, kProcessSection, "process_open_fds", kGauge, "descriptors", kMain,
     "File descriptors that are open."},
    {MetricId::kProcessMaxFds, kProcessSection, "process_max_fds", kGauge, "descriptors", kMain,
     "File descriptors that may be open; new connections wait when they are used up."},
    {MetricId::kProcessStartTime, kProcessSection, "process_start_time_seconds", kGauge, "seconds",
     kMain, "When the process began, since the epoch."},
};

constexpr bool IsInOrder() {
  int next = 0;
  for (const MetricDefinition& definition : kCatalog) {
    if (static_cast<int>(definition.id) != next++) return false;
  }
  return next == kNumMetrics;
}
static_assert(IsInOrder(), "the catalog has each MetricId once, in their order");

}  // namespace

const char* MetricTypeName(MetricType type) {
  switch (type) {
    case kCounter:
      return "counter";
    case kGauge:
      return "gauge";
    case kHistogram:
      return "histogram";
  }
  return "";
}

int MetricDefinition::num_labels() const {
  int count = 0;
  while (count < kMaxMetricLabels && labels[static_cast<size_t>(count)] != nullptr) ++count;
  return count;
}

absl::Span<const MetricDefinition> MetricCatalog() { return kCatalog; }

const MetricDefinition& Definition(MetricId id) { return kCatalog[static_cast<size_t>(id)]; }

}  // namespace moed
