// `--model null`: everything of the daemon but the model.
#pragma once

#include "absl/status/statusor.h"
#include "server/app/daemon_options.h"
#include "server/app/model_start.h"
#include "server/state/serving_state.h"

namespace moed {

// Serves tokens that nobody computed, over the real scheduler, output, tokenizer code and front
// ends, to measure these alone. The model says that it has Mixtral 8x7B's dimensions, with the
// vocabulary of MakeNullTokenizer; its text is words of random syllables, the same for the same
// seed (NullWorkerGroup). It ends at max_tokens, or where the request's own stop texts say.
//
// INVALID_ARGUMENT names an option that means nothing without a model.
absl::StatusOr<Serving> StartNullModel(const DaemonOptions& options, const ModelStartHooks& hooks);

}  // namespace moed
