#include "server/handlers/model_handler.h"

#include <cstdint>
#include <numeric>

#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "server/admission/request_validator.h"

namespace moed {
namespace {

void DescribeArchitecture(const ServedModel& model, v1::Model* result) {
  const ModelConfig& config = model.config;
  result->set_name(model.name);
  result->set_architecture(config.architecture);
  result->set_num_layers(static_cast<uint32_t>(config.num_layers));
  result->set_hidden(static_cast<uint32_t>(config.hidden));
  result->set_ffn(static_cast<uint32_t>(config.ffn));
  result->set_num_experts(static_cast<uint32_t>(config.num_experts));
  result->set_experts_per_token(static_cast<uint32_t>(config.top_k));
  result->set_num_heads(static_cast<uint32_t>(config.num_heads));
  result->set_num_kv_heads(static_cast<uint32_t>(config.num_kv_heads));
  result->set_head_dim(static_cast<uint32_t>(config.head_dim));
  result->set_vocab_size(static_cast<uint32_t>(config.vocab_size));
  result->set_sliding_window(static_cast<uint32_t>(config.sliding_window));
  result->set_dtype(DTypeName(model.dtype));
  result->set_num_ranks(static_cast<uint32_t>(model.num_ranks));
  result->set_backend(model.backend);
  for (const int32_t id : model.eos_token_ids()) {
    result->add_eos_token_ids(static_cast<uint32_t>(id));
  }
}

void DescribeTokenizer(const ServedModel& model, v1::Model* result) {
  if (model.tokenizer == nullptr) return;
  v1::TokenizerInfo* info = result->mutable_tokenizer();
  info->set_kind("sentencepiece-bpe");
  info->set_vocab_size(static_cast<uint32_t>(model.tokenizer->vocab_size()));
  if (model.tokenizer->bos_id() != Tokenizer::kNoToken) {
    info->set_bos_token_id(static_cast<uint32_t>(model.tokenizer->bos_id()));
  }
  if (model.chat_format.has_value()) info->set_chat_format("mistral-v1");
}

void DescribeRequests(const ServedModel& model, const RequestLimits& limits, v1::Model* result) {
  v1::RequestLimits* allowed = result->mutable_limits();
  allowed->set_context_tokens(static_cast<uint32_t>(model.context_tokens));
  allowed->set_message_bytes(static_cast<uint32_t>(limits.message_bytes));
  allowed->set_stop_strings(static_cast<uint32_t>(limits.stop_strings));
  allowed->set_stop_string_bytes(static_cast<uint32_t>(limits.stop_string_bytes));
  allowed->set_stop_token_ids(static_cast<uint32_t>(limits.stop_token_ids));
  allowed->set_logprobs(static_cast<uint32_t>(limits.logprobs));
  allowed->set_chat_messages(static_cast<uint32_t>(limits.chat_messages));
  allowed->set_n(static_cast<uint32_t>(limits.n));
  allowed->set_queued_requests(static_cast<uint32_t>(limits.queued_requests));
  allowed->set_default_max_tokens(static_cast<uint32_t>(limits.default_max_tokens));
  allowed->set_logit_bias(static_cast<uint32_t>(limits.logit_bias));
  allowed->set_bad_words(static_cast<uint32_t>(limits.bad_words));
  allowed->set_bad_word_bytes(static_cast<uint32_t>(limits.bad_word_bytes));
  allowed->set_experts_per_token(static_cast<uint32_t>(model.max_experts_per_token(limits)));
  allowed->set_routed_experts(limits.routed_experts);
  v1::DefaultSampling* sampling = result->mutable_default_sampling();
  sampling->set_temperature(model.default_temperature());
  sampling->set_top_k(model.default_top_k());
  sampling->set_top_p(model.default_top_p());
  sampling->set_min_p(model.default_min_p());
}

void Describe(const ServedModel& model, const RequestLimits& limits, v1::Model* result) {
  DescribeArchitecture(model, result);
  DescribeTokenizer(model, result);
  DescribeRequests(model, limits, result);
}

void DescribeActivity(const EngineStats& stats, v1::EngineActivity* result) {
  const SchedulerCounters& counters = stats.counters;
  result->set_waiting(static_cast<uint32_t>(stats.requests_waiting));
  result->set_running(static_cast<uint32_t>(stats.requests_running));
  result->set_steps(counters.steps);
  result->set_prompt_tokens(static_cast<uint64_t>(counters.prompt_tokens));
  result->set_cached_tokens(static_cast<uint64_t>(counters.cached_tokens));
  result->set_preemptions(static_cast<uint64_t>(counters.preemptions));
  result->set_recomputed_tokens(static_cast<uint64_t>(counters.recomputed_tokens));
  result->set_dropped_pairs(static_cast<uint64_t>(counters.dropped_pairs));
}

}  // namespace

absl::StatusOr<v1::GetModelResponse> GetModel(const v1::GetModelRequest& request,
                                              const Serving& serving, const RequestLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), *serving.model));
  v1::GetModelResponse response;
  Describe(*serving.model, limits, response.mutable_model());
  const EngineStats stats = serving.engine->Stats();
  const auto sum = [](const std::vector<int64_t>& blocks) {
    return static_cast<uint64_t>(std::accumulate(blocks.begin(), blocks.end(), int64_t{0}));
  };
  v1::KvCache* cache = response.mutable_kv_cache();
  cache->set_block_tokens(static_cast<uint32_t>(serving.model->block_tokens));
  cache->set_total_blocks(sum(stats.total_kv_blocks));
  cache->set_free_blocks(sum(stats.free_kv_blocks));
  cache->set_cached_blocks(sum(stats.cached_kv_blocks));
  DescribeActivity(stats, response.mutable_activity());
  return response;
}

v1::ListModelsResponse ListModels(const ServedModel& model, const RequestLimits& limits) {
  v1::ListModelsResponse response;
  Describe(model, limits, response.add_models());
  return response;
}

}  // namespace moed
