#include "server/handlers/admin_handler.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/backend.h"
#include "kernels/core/status.h"
#include "runtime/engine/routing_ledger.h"
#include "server/errors/error_details.h"
#include "server/admission/field_rules.h"

namespace moed {
namespace {

constexpr double kLongestDrainSeconds = 24 * 60 * 60;

v1::DaemonPhase Phase(LifecyclePhase phase) {
  switch (phase) {
    case LifecyclePhase::kLoading:
      return v1::DAEMON_PHASE_LOADING;
    case LifecyclePhase::kReady:
      return v1::DAEMON_PHASE_READY;
    case LifecyclePhase::kDraining:
    case LifecyclePhase::kStopped:
      return v1::DAEMON_PHASE_DRAINING;
    case LifecyclePhase::kFailed:
      return v1::DAEMON_PHASE_FAILED;
  }
  return v1::DAEMON_PHASE_UNSPECIFIED;
}

// As the contract has it, which is not what operators read in the log.
const char* MemoryName(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kWeights:
      return "weights";
    case MemoryKind::kKvCache:
      return "kv_cache";
    case MemoryKind::kActivations:
      return "activations";
    case MemoryKind::kExchange:
      return "exchange";
    case MemoryKind::kWorkspace:
      return "workspace";
  }
  return "";
}

void DescribeMemory(const RankDescription& description, v1::RankStatus* rank) {
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    v1::MemoryUse* use = rank->add_memory();
    use->set_kind(MemoryName(static_cast<MemoryKind>(kind)));
    use->set_bytes(static_cast<uint64_t>(description.memory_bytes[static_cast<size_t>(kind)]));
  }
}

void DescribeWork(const RankTotals& totals, v1::RankStatus* rank) {
  rank->set_steps(totals.num_steps);
  rank->set_compute_seconds(totals.compute_seconds);
  rank->set_collective_wait_seconds(totals.collective_wait_seconds);
  rank->set_routed_pairs(static_cast<uint64_t>(totals.routed_pairs));
  rank->set_exchange_bytes_sent(static_cast<uint64_t>(totals.exchange_bytes_sent));
  rank->set_exchange_bytes_received(static_cast<uint64_t>(totals.exchange_bytes_received));
}

// Entry `rank`, or 0 where there is none.
uint64_t Of(const std::vector<int64_t>& values, size_t rank) {
  return rank < values.size() ? static_cast<uint64_t>(values[rank]) : 0;
}

void DescribeRanks(const Serving& serving, const EngineStats& stats,
                   v1::ListRanksResponse* response) {
  const ServedModel& model = *serving.model;
  const std::vector<RankTotals> totals = serving.engine->routing().Ranks();
  for (size_t i = 0; i < static_cast<size_t>(std::max(model.num_ranks, 0)); ++i) {
    v1::RankStatus* rank = response->add_ranks();
    rank->set_rank(static_cast<uint32_t>(i));
    // A fault of one breaks the group: none takes work any more.
    rank->set_up(stats.fault.ok() && response->phase() != v1::DAEMON_PHASE_FAILED);
    rank->set_load_fraction(1);
    rank->set_device(model.backend);
    if (i < model.ranks.size()) DescribeMemory(model.ranks[i], rank);
    rank->set_total_kv_blocks(Of(stats.total_kv_blocks, i));
    rank->set_free_kv_blocks(Of(stats.free_kv_blocks, i));
    rank->set_cached_kv_blocks(Of(stats.cached_kv_blocks, i));
    if (i < totals.size()) DescribeWork(totals[i], rank);
  }
}

void DescribeLoading(const LifecycleSnapshot& lifecycle, v1::ListRanksResponse* response) {
  for (size_t i = 0; i < lifecycle.ranks.size(); ++i) {
    if (lifecycle.ranks[i].phase.empty()) continue;  // a later rank was faster
    v1::RankStatus* rank = response->add_ranks();
    rank->set_rank(static_cast<uint32_t>(i));
    rank->set_load_phase(lifecycle.ranks[i].phase);
    rank->set_load_fraction(lifecycle.ranks[i].fraction);
  }
}

}  // namespace

v1::ListRanksResponse ListRanks(const LifecycleSnapshot& lifecycle, const Serving* serving) {
  v1::ListRanksResponse response;
  response.set_phase(Phase(lifecycle.phase));
  response.set_load_fraction(lifecycle.load_fraction);
  if (serving == nullptr) {
    DescribeLoading(lifecycle, &response);
    return response;
  }
  const EngineStats stats = serving->engine->Stats();
  response.set_waiting(static_cast<uint32_t>(stats.requests_waiting));
  response.set_running(static_cast<uint32_t>(stats.requests_running));
  DescribeRanks(*serving, stats, &response);
  return response;
}

absl::StatusOr<v1::AbortRequestResponse> AbortRequest(const v1::AbortRequestRequest& request,
                                                      const Serving* serving) {
  if (request.request_id().empty()) return FieldError("request_id", "must not be empty");
  if (serving == nullptr ||
      !serving->engine->Cancel(request.request_id(),
                               absl::AbortedError("the request was ended by an administrator"))) {
    return absl::NotFoundError("no request with this id is live");
  }
  return v1::AbortRequestResponse();
}

absl::StatusOr<v1::DrainResponse> Drain(const v1::DrainRequest& request, const Serving* serving,
                                        AdminControl& control) {
  std::optional<std::chrono::milliseconds> timeout;
  if (request.has_timeout_seconds()) {
    MOED_RETURN_IF_ERROR(
        CheckRange("timeout_seconds", request.timeout_seconds(), 0.0, kLongestDrainSeconds));
    timeout = std::chrono::milliseconds(static_cast<int64_t>(request.timeout_seconds() * 1000));
  }
  v1::DrainResponse response;
  if (serving != nullptr) {
    const EngineStats stats = serving->engine->Stats();
    response.set_running(static_cast<uint32_t>(stats.requests_running));
    response.set_waiting(static_cast<uint32_t>(stats.requests_waiting));
  }
  control.BeginDrain(timeout);
  return response;
}

absl::StatusOr<v1::SetLogLevelResponse> SetLogLevel(const v1::SetLogLevelRequest& request,
                                                    AdminControl& control) {
  MOED_RETURN_IF_ERROR(control.SetLogLevel(request.level()));
  return v1::SetLogLevelResponse();
}

}  // namespace moed
