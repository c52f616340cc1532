#include "server/handlers/expert_handler.h"

#include <vector>

#include "absl/types/span.h"
#include "kernels/core/status.h"
#include "runtime/model/routing_statistics.h"
#include "server/admission/request_validator.h"
#include "server/admission/supported_fields.h"

namespace moed {

absl::StatusOr<v1::GetExpertLoadResponse> GetExpertLoad(const v1::GetExpertLoadRequest& request,
                                                        const Serving& serving) {
  MOED_RETURN_IF_ERROR(CheckSupportedFields(request));
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), *serving.model));
  const EngineStats stats = serving.engine->Stats();
  const std::vector<RoutingSummary> summaries =
      SummarizeRoutingByLayer(stats.expert_tokens, stats.num_layers, stats.num_experts);
  v1::GetExpertLoadResponse response;
  response.set_experts_per_token(static_cast<uint32_t>(serving.model->config.top_k));
  for (int layer = 0; layer < stats.num_layers; ++layer) {
    const RoutingSummary& summary = summaries[layer];
    v1::LayerExpertLoad* load = response.add_layers();
    load->set_layer(static_cast<uint32_t>(layer));
    const auto tokens = absl::MakeConstSpan(stats.expert_tokens)
                            .subspan(size_t(layer) * stats.num_experts, stats.num_experts);
    load->mutable_tokens()->Assign(tokens.begin(), tokens.end());
    load->mutable_share()->Assign(summary.shares.begin(), summary.shares.end());
    load->set_max_over_mean(summary.max_over_mean);
    load->set_gini(summary.gini);
    load->set_entropy(summary.normalized_entropy);
    load->set_dead_experts(static_cast<uint32_t>(summary.num_dead_experts));
  }
  return response;
}

}  // namespace moed
