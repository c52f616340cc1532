#include "kernels/check_args.h"

#include <algorithm>
#include <cstdio>
#include <initializer_list>

#include "kernels/core/check.h"

namespace moed {
namespace {

constexpr int64_t kAny = -1;  // a dimension that may have any size
constexpr int kTextBytes = 160;

void PrintView(char* text, DType dtype, const int64_t* dims, int rank) {
  int used = std::snprintf(text, kTextBytes, "%s[", DTypeName(dtype));
  for (int axis = 0; axis < rank && used < kTextBytes; ++axis) {
    used += std::snprintf(text + used, static_cast<size_t>(kTextBytes - used),
                          dims[axis] == kAny ? "%s*" : "%s%lld", axis == 0 ? "" : ", ",
                          static_cast<long long>(dims[axis]));
  }
  if (used < kTextBytes) std::snprintf(text + used, static_cast<size_t>(kTextBytes - used), "]");
}

[[noreturn]] void WrongView(const char* name, const ConstTensorView& view, DType dtype,
                            std::initializer_list<int64_t> shape) {
  char found[kTextBytes];
  char expected[kTextBytes];
  char message[3 * kTextBytes];
  int64_t dims[ConstTensorView::kMaxRank];
  for (int axis = 0; axis < view.rank(); ++axis) dims[axis] = view.dim(axis);
  PrintView(found, view.dtype(), dims, view.rank());
  PrintView(expected, dtype, shape.begin(), static_cast<int>(shape.size()));
  std::snprintf(message, sizeof(message), "%s is %s, expected %s", name, found, expected);
  CheckFailed(__FILE__, __LINE__, "a view has the shape and dtype of its contract", message);
}

// kAny in `shape` fits every size.
void CheckView(const char* name, const ConstTensorView& view, DType dtype,
               std::initializer_list<int64_t> shape) {
  bool good = view.dtype() == dtype && view.rank() == static_cast<int>(shape.size());
  for (int axis = 0; good && axis < view.rank(); ++axis) {
    const int64_t expected = shape.begin()[axis];
    good = expected == kAny ? view.dim(axis) >= 0 : view.dim(axis) == expected;
  }
  if (good && view.raw() == nullptr) good = view.empty();
  if (!good) [[unlikely]]
    WrongView(name, view, dtype, shape);
}

constexpr DType kInt = DType::kInt32;
constexpr DType kFloat = DType::kFloat32;

}  // namespace

void CheckEmbed(const EmbedArgs& args, DType act) {
  CheckView("Embed: table", args.table, act, {kAny, kAny});
  CheckView("Embed: input_tokens", args.input_tokens, kInt, {kAny});
  CheckView("Embed: last_sampled", args.last_sampled, kInt, {kAny});
  CheckView("Embed: out", args.out, kFloat, {args.input_tokens.dim(0), args.table.dim(1)});
}

void CheckRmsNorm(const RmsNormArgs& args, DType act) {
  CheckView("RmsNorm: x", args.x, kFloat, {kAny, kAny});
  int64_t num_rows = args.x.dim(0);
  if (args.row_index.rank() != 0) {
    CheckView("RmsNorm: row_index", args.row_index, kInt, {kAny});
    num_rows = args.row_index.dim(0);
  }
  CheckView("RmsNorm: weight", args.weight, kFloat, {args.x.dim(1)});
  CheckView("RmsNorm: out", args.out, act, {num_rows, args.x.dim(1)});
}

void CheckLinear(const LinearArgs& args, DType act) {
  MOED_CHECK(args.weight != nullptr, "Linear: no weight");
  CheckView("Linear: x", args.x, act, {kAny, args.weight->in_features()});
  const bool float_out = args.accumulate || args.out.dtype() == kFloat;
  CheckView("Linear: out", args.out, float_out ? kFloat : act,
            {args.x.dim(0), args.weight->out_features()});
}

void CheckRotaryCacheWrite(const RotaryCacheWriteArgs& args, DType act) {
  CheckView("RotaryCacheWrite: q", args.q, kFloat, {kAny, kAny, kAny});
  const int64_t num_tokens = args.q.dim(0);
  const int64_t head_dim = args.q.dim(2);
  MOED_CHECK(head_dim % 2 == 0, "RotaryCacheWrite: head_dim is odd");
  CheckView("RotaryCacheWrite: k_cache", args.k_cache, act, {kAny, kAny, kAny, head_dim});
  const int64_t num_kv_heads = args.k_cache.dim(1);
  CheckView("RotaryCacheWrite: v_cache", args.v_cache, act,
            {args.k_cache.dim(0), num_kv_heads, args.k_cache.dim(2), head_dim});
  CheckView("RotaryCacheWrite: qkv", args.qkv, kFloat,
            {num_tokens, (args.q.dim(1) + 2 * num_kv_heads) * head_dim});
  CheckView("RotaryCacheWrite: positions", args.positions, kInt, {num_tokens});
  CheckView("RotaryCacheWrite: slot_mapping", args.slot_mapping, kInt, {num_tokens});
  CheckView("RotaryCacheWrite: cos_sin", args.cos_sin, kFloat, {kAny, head_dim});
}

void CheckPagedAttention(const PagedAttentionArgs& args, DType act) {
  CheckView("PagedAttention: q", args.q, kFloat, {kAny, kAny, kAny});
  const int64_t num_heads = args.q.dim(1);
  const int64_t head_dim = args.q.dim(2);
  CheckView("PagedAttention: k_cache", args.k_cache, act, {kAny, kAny, kAny, head_dim});
  const int64_t num_kv_heads = args.k_cache.dim(1);
  CheckView("PagedAttention: v_cache", args.v_cache, act,
            {args.k_cache.dim(0), num_kv_heads, args.k_cache.dim(2), head_dim});
  MOED_CHECK(num_kv_heads > 0 && num_heads % num_kv_heads == 0,
             "PagedAttention: num_heads is not a multiple of num_kv_heads");
  MOED_CHECK(args.sliding_window >= 0, "PagedAttention: sliding_window is negative");
  CheckView("PagedAttention: context_lengths", args.context_lengths, kInt, {kAny});
  const int64_t num_chunks = args.context_lengths.dim(0);
  CheckView("PagedAttention: chunk_starts", args.chunk_starts, kInt, {num_chunks + 1});
  CheckView("PagedAttention: block_tables", args.block_tables, kInt, {num_chunks, kAny});
  CheckView("PagedAttention: out", args.out, act, {args.q.dim(0), num_heads * head_dim});
}

void CheckRoute(const RouteArgs& args, DType act) {
  MOED_CHECK(args.scoring == RouterScoring::kTopKThenSoftmax, "Route: unknown scoring");
  CheckView("Route: x", args.x, act, {kAny, kAny});
  CheckView("Route: weight", args.weight, kFloat, {kAny, args.x.dim(1)});
  CheckView("Route: topk_ids", args.topk_ids, kInt, {args.x.dim(0), kAny});
  MOED_CHECK(args.topk_ids.dim(1) <= args.weight.dim(0), "Route: top_k exceeds num_experts");
  CheckView("Route: topk_weights", args.topk_weights, kFloat,
            {args.x.dim(0), args.topk_ids.dim(1)});
  if (args.num_choices.rank() != 0) {
    CheckView("Route: num_choices", args.num_choices, kInt, {args.x.dim(0)});
  }
}

void CheckCountChoices(const CountChoicesArgs& args) {
  CheckView("CountChoices: topk_ids", args.topk_ids, kInt, {kAny, kAny});
  CheckView("CountChoices: counts", args.counts, DType::kInt64, {kAny});
}

void CheckLimitLoad(const LimitLoadArgs& args) {
  MOED_CHECK(args.capacity >= 0, "LimitLoad: capacity is negative");
  MOED_CHECK(args.num_experts >= 0, "LimitLoad: num_experts is negative");
  CheckView("LimitLoad: topk_ids", args.topk_ids, kInt, {kAny, kAny});
  CheckView("LimitLoad: dropped", args.dropped, kInt, {args.topk_ids.dim(0)});
}

void CheckPlanSend(const PlanSendArgs& args) {
  CheckView("PlanSend: topk_ids", args.topk_ids, kInt, {kAny, kAny});
  CheckView("PlanSend: rank_of_expert", args.rank_of_expert, kInt, {kAny});
  CheckView("PlanSend: send_counts", args.send_counts, kInt, {kAny});
  const int64_t num_ranks = args.send_counts.dim(0);
  const int64_t num_tokens = args.topk_ids.dim(0);
  const int64_t top_k = args.topk_ids.dim(1);
  CheckView("PlanSend: reply_counts", args.reply_counts, kInt, {num_ranks});
  CheckView("PlanSend: send_row_index", args.send_row_index, kInt, {kAny});
  MOED_CHECK(args.send_row_index.dim(0) >= num_tokens * std::min(top_k, num_ranks),
             "PlanSend: send_row_index is too short");
  CheckView("PlanSend: contribution_index", args.contribution_index, kInt, {num_tokens, top_k});
}

void CheckIndexStaticSlots(const IndexStaticSlotsArgs& args) {
  CheckView("IndexStaticSlots: topk_ids", args.topk_ids, kInt, {kAny, kAny});
  CheckView("IndexStaticSlots: rank_of_expert", args.rank_of_expert, kInt, {kAny});
  MOED_CHECK(args.padded_rows >= args.topk_ids.dim(0),
             "IndexStaticSlots: padded_rows is less than num_tokens");
  CheckView("IndexStaticSlots: contribution_index", args.contribution_index, kInt,
            {args.topk_ids.dim(0), args.topk_ids.dim(1)});
}

void CheckGroupByExpert(const GroupByExpertArgs& args) {
  CheckView("GroupByExpert: topk_ids", args.topk_ids, kInt, {kAny, kAny});
  CheckView("GroupByExpert: local_expert_of", args.local_expert_of, kInt, {kAny});
  CheckView("GroupByExpert: expert_offsets", args.expert_offsets, kInt, {kAny});
  MOED_CHECK(args.expert_offsets.dim(0) >= 1, "GroupByExpert: expert_offsets is empty");
  const int64_t pairs =
      args.topk_ids.dim(0) * std::min(args.topk_ids.dim(1), args.expert_offsets.dim(0) - 1);
  CheckView("GroupByExpert: row_index", args.row_index, kInt, {kAny});
  CheckView("GroupByExpert: out_index", args.out_index, kInt, {args.row_index.dim(0)});
  MOED_CHECK(args.row_index.dim(0) >= pairs, "GroupByExpert: row_index is too short");
}

void CheckGatherRows(const GatherRowsArgs& args) {
  CheckView("GatherRows: x", args.x, args.x.dtype(), {kAny, kAny});
  CheckView("GatherRows: row_index", args.row_index, kInt, {kAny});
  CheckView("GatherRows: out", args.out, args.x.dtype(), {args.row_index.dim(0), args.x.dim(1)});
}

void CheckExpertFfn(const ExpertFfnArgs& args, DType act) {
  CheckView("ExpertFfn: x", args.x, act, {kAny, kAny});
  CheckView("ExpertFfn: expert_offsets", args.expert_offsets, kInt,
            {static_cast<int64_t>(args.experts.size()) + 1});
  CheckView("ExpertFfn: row_index", args.row_index, kInt, {kAny});
  CheckView("ExpertFfn: out_index", args.out_index, kInt, {kAny});
  CheckView("ExpertFfn: out", args.out, act, {kAny, args.x.dim(1)});
  for (const ExpertWeight* expert : args.experts) {
    MOED_CHECK(expert != nullptr, "ExpertFfn: an expert is missing");
  }
}

void CheckCombine(const CombineArgs& args, DType act) {
  CheckView("Combine: contributions", args.contributions, act, {kAny, kAny});
  CheckView("Combine: contribution_index", args.contribution_index, kInt, {kAny, kAny});
  CheckView("Combine: topk_weights", args.topk_weights, kFloat,
            {args.contribution_index.dim(0), args.contribution_index.dim(1)});
  CheckView("Combine: residual", args.residual, kFloat,
            {args.contribution_index.dim(0), args.contributions.dim(1)});
}

void CheckFillSeeded(const FillSeededArgs& args) {
  MOED_CHECK(args.out.dtype() == kFloat || args.out.dtype() == DType::kBFloat16,
             "FillSeeded: out is neither float32 nor bfloat16");
}

void CheckSample(const SampleArgs& args) {
  const auto num_rows = static_cast<int64_t>(args.rows.size());
  CheckView("Sample: logits", args.logits, kFloat, {num_rows, kAny});
  CheckView("Sample: last_sampled", args.last_sampled, kInt, {kAny});
  CheckView("Sample: token_ids", args.token_ids, kInt, {num_rows});
  CheckView("Sample: logprobs", args.logprobs, kFloat, {num_rows});
  if (args.want_top) {
    CheckView("Sample: top_ids", args.top_ids, kInt, {num_rows, kMaxLogprobs});
    CheckView("Sample: top_logprobs", args.top_logprobs, kFloat, {num_rows, kMaxLogprobs});
  }
  for (const SamplingRow& row : args.rows) {
    MOED_CHECK(row.slot >= 0 && row.slot < args.last_sampled.dim(0),
               "Sample: a row's slot lies outside last_sampled");
    MOED_CHECK(row.temperature >= 0 && row.top_k >= 0 && row.top_p > 0 && row.min_p >= 0 &&
                   row.typical_p > 0 && row.repetition_penalty > 0,
               "Sample: a row's parameters are out of range");
  }
}

void CheckTokenLogprobs(const TokenLogprobsArgs& args) {
  CheckView("TokenLogprobs: logits", args.logits, kFloat, {kAny, kAny});
  const int64_t num_rows = args.logits.dim(0);
  CheckView("TokenLogprobs: targets", args.targets, kInt, {num_rows});
  CheckView("TokenLogprobs: logprobs", args.logprobs, kFloat, {num_rows});
  CheckView("TokenLogprobs: top_ids", args.top_ids, kInt, {num_rows, kMaxLogprobs});
  CheckView("TokenLogprobs: top_logprobs", args.top_logprobs, kFloat, {num_rows, kMaxLogprobs});
}

}  // namespace moed
