// What TokenRouting has seen, in figures: how faithful routers are to token ids, and which token
// ids an expert receives most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/model/random_favourite.h"
#include "runtime/model/token_routing.h"

namespace moed {

// How faithful a layer's router is to token ids, by first choices: of the rows of token ids that
// the layer saw at least twice, and each row counting the same. (After "vocabulary
// specialization" in Muennighoff et al. 2024, "OLMoE", and "context-independent specialization" in
// Xue et al. 2024, "OpenMoE".)
struct RoutingConsistency {
  int64_t num_rows = 0;       // of those token ids
  int64_t num_token_ids = 0;  // that were seen at least twice
  // Share of rows that went to the expert that most rows of their token id went to. 0 without rows.
  double favourite = 0;
  // The same for a router that draws each row's expert at random. Well above 1 / num_experts where
  // token ids have few rows: of two rows one is always with the favourite.
  double random_favourite = 0;
  // Probability that two different rows of one token id have the same expert, the token id drawn by
  // its rows. At random 1 / num_experts, however few the rows are.
  double agreement = 0;
};

struct ExpertTopToken {
  int32_t token_id = 0;
  int64_t num_rows = 0;  // rows of the token id that chose the expert, whichever choice it was
  double share = 0;      // of all the token id's rows
};

struct TokenRoutingReport {
  int num_layers = 0;
  int num_experts = 0;
  int64_t num_rows = 0;                         // seen
  std::vector<RoutingConsistency> consistency;  // [num_layers]
  // [num_layers * num_experts]: at most top_n each, those with the most rows first, of equal ones
  // the lower token id first.
  std::vector<std::vector<ExpertTopToken>> top_tokens;
};

// Makes the report in pieces, between which rows may be added: each token id is read once, at its
// turn. The whole costs one pass over the tables.
class TokenRoutingReader {
 public:
  // top_n >= 0.
  TokenRoutingReader(const TokenRoutingShape& shape, int top_n);

  // Reads up to `num_token_ids` more. False: all have been read.
  bool ReadSome(const TokenRouting& routing, int32_t num_token_ids);
  // Once, when all have been read.
  TokenRoutingReport Finish();

 private:
  void ReadLayer(int layer, absl::Span<const uint32_t> first, absl::Span<const uint32_t> all,
                 int32_t token_id);
  void Offer(const ExpertTopToken& token, std::vector<ExpertTopToken>* top) const;

  const TokenRoutingShape shape_;
  const size_t top_n_;
  const RandomFavourite random_favourite_;
  int32_t next_token_id_ = 0;
  // While reading: sums over rows, which Finish divides; `top_tokens` are heaps.
  TokenRoutingReport report_;
};

}  // namespace moed
