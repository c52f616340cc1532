#include "server/handlers/expert_handler.h"

#include <chrono>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/core/status.h"
#include "runtime/engine/routing_ledger.h"
#include "server/errors/error_details.h"
#include "server/admission/field_rules.h"
#include "server/admission/request_validator.h"

namespace moed {
namespace {

constexpr uint32_t kDefaultTokens = 10;
constexpr uint32_t kMaxTokens = 100;

// Whole seconds, no fewer than were asked for.
absl::StatusOr<std::optional<std::chrono::seconds>> Window(
    const v1::GetExpertLoadRequest& request) {
  if (!request.has_window_seconds()) return std::nullopt;
  constexpr double kLongest = std::chrono::duration<double>(RoutingLedger::kMaxWindow).count();
  MOED_RETURN_IF_ERROR(CheckRangeAbove("window_seconds", request.window_seconds(), 0.0, kLongest));
  return std::chrono::seconds(static_cast<int64_t>(std::ceil(request.window_seconds())));
}

void DescribeLayer(const ExpertLoad& load, int layer, v1::LayerExpertLoad* result) {
  result->set_layer(static_cast<uint32_t>(layer));
  const auto tokens = absl::MakeConstSpan(load.expert_tokens)
                          .subspan(size_t(layer) * load.num_experts, load.num_experts);
  result->mutable_tokens()->Assign(tokens.begin(), tokens.end());
  const RoutingSummary& routing = load.routing[layer];
  result->mutable_share()->Assign(routing.shares.begin(), routing.shares.end());
  result->set_max_over_mean(routing.max_over_mean);
  result->set_gini(routing.gini);
  result->set_entropy(routing.normalized_entropy);
  result->set_dead_experts(static_cast<uint32_t>(routing.num_dead_experts));
  const RepetitionSummary& repetition = load.repetition[layer];
  result->set_repetition_tokens(static_cast<uint64_t>(repetition.num_rows));
  result->set_first_repetition(repetition.first);
  result->set_any_repetition(repetition.any);
}

void DescribeLayerTokens(const TokenRoutingReport& report, int layer, const Tokenizer* tokenizer,
                         v1::LayerExpertTokens* result) {
  result->set_layer(static_cast<uint32_t>(layer));
  const RoutingConsistency& consistency = report.consistency[layer];
  result->set_repeated_tokens(static_cast<uint64_t>(consistency.num_rows));
  result->set_repeated_token_ids(static_cast<uint64_t>(consistency.num_token_ids));
  result->set_favourite_share(consistency.favourite);
  result->set_random_favourite_share(consistency.random_favourite);
  result->set_agreement(consistency.agreement);
  for (int expert = 0; expert < report.num_experts; ++expert) {
    v1::ExpertTokens* tokens = result->add_experts();
    tokens->set_expert(static_cast<uint32_t>(expert));
    for (const ExpertTopToken& top :
         report.top_tokens[size_t(layer) * report.num_experts + expert]) {
      v1::ExpertToken* token = tokens->add_tokens();
      token->set_token_id(static_cast<uint32_t>(top.token_id));
      token->set_count(static_cast<uint64_t>(top.num_rows));
      token->set_share(top.share);
      if (tokenizer != nullptr && tokenizer->Contains(top.token_id)) {
        const absl::string_view piece = tokenizer->IdToPiece(top.token_id);
        token->set_piece(piece.data(), piece.size());
      }
    }
  }
}

}  // namespace

absl::StatusOr<v1::GetPlacementResponse> GetPlacement(const v1::GetPlacementRequest& request,
                                                      const ServedModel& model) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  if (!model.placement.has_value()) {
    return absl::UnavailableError("the ranks have not started");
  }
  const ExpertPlacement& placement = *model.placement;
  v1::GetPlacementResponse response;
  response.set_num_ranks(static_cast<uint32_t>(placement.num_ranks()));
  for (int layer = 0; layer < placement.num_layers(); ++layer) {
    v1::LayerPlacement* ranks = response.add_layers();
    ranks->set_layer(static_cast<uint32_t>(layer));
    const absl::Span<const int32_t> rank_of = placement.RankOfExpert(layer);
    ranks->mutable_rank()->Assign(rank_of.begin(), rank_of.end());
  }
  return response;
}

v1::GetExpertLoadRequest LoadRequest(const v1::WatchExpertLoadRequest& request) {
  v1::GetExpertLoadRequest load;
  load.set_model(request.model());
  if (request.has_window_seconds()) load.set_window_seconds(request.window_seconds());
  return load;
}

absl::StatusOr<v1::GetExpertLoadResponse> GetExpertLoad(const v1::GetExpertLoadRequest& request,
                                                        const Serving& serving) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), *serving.model));
  MOED_ASSIGN_OR_RETURN(const std::optional<std::chrono::seconds> window, Window(request));
  const ExpertLoad load = serving.engine->routing().Load(window, std::chrono::steady_clock::now());
  v1::GetExpertLoadResponse response;
  response.set_experts_per_token(static_cast<uint32_t>(serving.model->config.top_k));
  response.set_window_seconds(load.covered_seconds);
  response.set_random_first_repetition(load.random_repetition.first);
  response.set_random_any_repetition(load.random_repetition.any);
  response.set_dropped_pairs(static_cast<uint64_t>(load.dropped_pairs));
  for (int layer = 0; layer < load.num_layers; ++layer) {
    DescribeLayer(load, layer, response.add_layers());
  }
  return response;
}

absl::StatusOr<v1::GetExpertTokensResponse> GetExpertTokens(
    const v1::GetExpertTokensRequest& request, const Serving& serving) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), *serving.model));
  const uint32_t limit = request.has_limit() ? request.limit() : kDefaultTokens;
  MOED_RETURN_IF_ERROR(CheckRange("limit", limit, 1U, kMaxTokens));
  absl::StatusOr<TokenRoutingReport> report =
      serving.engine->routing().Tokens(static_cast<int>(limit));
  if (absl::IsFailedPrecondition(report.status())) {
    return WithReason(
        absl::FailedPreconditionError(
            "this server does not keep which tokens go to which expert; its operator can have it "
            "with --expert-token-statistics"),
        kReasonFeatureOff);
  }
  MOED_RETURN_IF_ERROR(report.status());
  v1::GetExpertTokensResponse response;
  response.set_counted_tokens(static_cast<uint64_t>(report->num_rows));
  response.set_random_agreement(1.0 / report->num_experts);
  for (int layer = 0; layer < report->num_layers; ++layer) {
    DescribeLayerTokens(*report, layer, serving.model->tokenizer.get(), response.add_layers());
  }
  return response;
}

}  // namespace moed
