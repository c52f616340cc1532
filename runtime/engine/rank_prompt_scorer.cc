#include "runtime/engine/rank_prompt_scorer.h"

#include <algorithm>

#include "kernels/core/status.h"

namespace moed {

absl::StatusOr<std::unique_ptr<RankPromptScorer>> RankPromptScorer::Create(Backend& backend,
                                                                           int64_t max_rows) {
  auto scorer = std::unique_ptr<RankPromptScorer>(new RankPromptScorer(backend));
  MOED_ASSIGN_OR_RETURN(scorer->logprobs_, LogprobRows::Create(backend, max_rows));
  return scorer;
}

void RankPromptScorer::Score(Stream& stream, Transformer& transformer,
                             const Activations& activations, int64_t num_tokens,
                             ConstTensorView scored_rows, ConstTensorView targets) {
  num_collected_ = 0;
  const int64_t num_scored = scored_rows.dim(0);
  if (num_scored == 0) return;
  const int64_t max_piece = activations.limits().max_logit_rows;
  for (int64_t begin = 0; begin < num_scored; begin += max_piece) {
    const int64_t piece = std::min(max_piece, num_scored - begin);
    transformer.Head(stream, num_tokens, scored_rows.Rows(begin, piece));
    backend_.TokenLogprobs(stream,
                           {.logits = activations.logits(piece),
                            .targets = targets.Rows(begin, piece),
                            .logprobs = logprobs_.logprobs(num_scored).Rows(begin, piece),
                            .top_ids = logprobs_.top_ids(num_scored).Rows(begin, piece),
                            .top_logprobs = logprobs_.top_logprobs(num_scored).Rows(begin, piece)});
  }
  logprobs_.Fetch(backend_, stream, num_scored, /*with_top=*/true);
}

void RankPromptScorer::Collect(const SequenceChunk& chunk, int32_t num_top, ChunkReport& report) {
  report.prompt_logprobs.reserve(chunk.logprob_targets.size());
  for (const int32_t target : chunk.logprob_targets) {
    SampledToken& token = report.prompt_logprobs.emplace_back();
    token.slot = chunk.slot;
    token.token_id = target;
    logprobs_.Read(num_collected_++, num_top, token);
  }
}

}  // namespace moed
