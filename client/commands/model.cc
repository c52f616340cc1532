#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/output.h"

namespace moed {

absl::Status RunModel(const ClientOptions& options, Connection& connection) {
  v1::GetModelRequest request;
  request.set_model(options.model);
  v1::GetModelResponse response;
  const absl::Status status = connection.GetModel(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
    return absl::OkStatus();
  }
  const v1::Model& model = response.model();
  const v1::KvCache& cache = response.kv_cache();
  std::string text;
  const auto line = [&](absl::string_view name, absl::string_view value) {
    absl::StrAppendFormat(&text, "%-14s %s\n", name, value);
  };
  line("model", absl::StrCat(model.name(), " (", model.architecture(), ")"));
  line("layers", absl::StrFormat("%d, hidden %d, %d heads, %d KV heads", model.num_layers(),
                                 model.hidden(), model.num_heads(), model.num_kv_heads()));
  line("experts", absl::StrFormat("%d a layer, %d for each token, ffn %d", model.num_experts(),
                                  model.experts_per_token(), model.ffn()));
  line("ranks", absl::StrCat(model.num_ranks()));
  line("backend", model.backend());
  line("dtype", model.dtype());
  line("vocabulary", absl::StrCat(model.vocab_size()));
  line("tokenizer", !model.has_tokenizer() ? "none: token ids only"
                    : model.tokenizer().chat_format().empty()
                        ? model.tokenizer().kind()
                        : absl::StrCat(model.tokenizer().kind(), ", chats as ",
                                       model.tokenizer().chat_format()));
  line("context", absl::StrCat(model.limits().context_tokens(), " tokens"));
  line("KV cache", absl::StrFormat("%d of %d blocks of %d tokens are free", cache.free_blocks(),
                                   cache.total_blocks(), cache.block_tokens()));
  const v1::EngineActivity& activity = response.activity();
  line("prefix cache",
       absl::StrFormat("%d blocks kept; %d of %d prompt tokens taken from it",
                       cache.cached_blocks(), activity.cached_tokens(), activity.prompt_tokens()));
  line("engine", absl::StrFormat("%d run, %d wait; %d steps, %d preemptions", activity.running(),
                                 activity.waiting(), activity.steps(), activity.preemptions()));
  PrintText(text);
  return absl::OkStatus();
}

}  // namespace moed
