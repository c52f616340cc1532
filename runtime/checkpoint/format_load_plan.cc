// FormatLoadPlan of load_plan.h.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/checkpoint/load_plan.h"

namespace moed {
namespace {

constexpr size_t kMaxRanksShown = 64;
constexpr size_t kMaxShardsColumns = 44;

// "46,702,792,704"
std::string Grouped(int64_t number) {
  std::string digits = absl::StrCat(number);
  for (auto place = static_cast<int64_t>(digits.size()) - 3; place > 0; place -= 3) {
    digits.insert(static_cast<size_t>(place), 1, ',');
  }
  return digits;
}

std::string Size(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1'000'000'000) return absl::StrFormat("%.2f GB", value / 1e9);
  if (bytes >= 1'000'000) return absl::StrFormat("%.2f MB", value / 1e6);
  if (bytes >= 1'000) return absl::StrFormat("%.2f kB", value / 1e3);
  return absl::StrFormat("%d bytes", bytes);
}

// "lo" or "lo to hi" over the ranks.
template <typename Field, typename Text>
std::string Range(const LoadPlan& plan, Field field, Text text) {
  const auto [lowest, highest] = std::minmax_element(
      plan.ranks.begin(), plan.ranks.end(),
      [field](const RankLoadPlan& a, const RankLoadPlan& b) { return a.*field < b.*field; });
  const std::string low = text((*lowest).*field);
  const std::string high = text((*highest).*field);
  return low == high ? low : absl::StrCat(low, " to ", high);
}

void AppendModel(const LoadPlan& plan, std::string& out) {
  const ModelConfig& config = plan.config;
  absl::StrAppendFormat(&out, "%s: %d layers, hidden %d, ffn %d, %d experts (top %d), %d heads, ",
                        config.architecture, config.num_layers, config.hidden, config.ffn,
                        config.num_experts, config.top_k, config.num_heads);
  absl::StrAppendFormat(&out, "%d KV heads,\nhead dim %d, vocabulary %d, %d positions",
                        config.num_kv_heads, config.head_dim, config.vocab_size,
                        config.max_positions);
  if (config.sliding_window > 0) {
    absl::StrAppendFormat(&out, ", window %d", config.sliding_window);
  }
  absl::StrAppendFormat(&out, "\n%s parameters, %s active per token\n",
                        Grouped(plan.num_parameters), Grouped(plan.num_active_parameters));
  if (plan.shards.empty()) {
    absl::StrAppendFormat(&out, "no checkpoint: seeded weights\n\n");
  } else {
    absl::StrAppendFormat(&out, "checkpoint of %s %s in %d shard%s, every tensor is there\n\n",
                          Size(plan.checkpoint_bytes), DTypeName(config.checkpoint_dtype),
                          plan.shards.size(), plan.shards.size() == 1 ? "" : "s");
  }
}

void AppendLine(absl::string_view what, absl::string_view value, absl::string_view note,
                std::string& out) {
  std::string line = absl::StrFormat("  %-20s%s", what, value);
  if (!note.empty()) line = absl::StrFormat("%-48s%s", line, note);
  absl::StrAppend(&out, line, "\n");
}

void AppendMemory(const LoadPlan& plan, std::string& out) {
  const LoadPlanOptions& options = plan.options;
  const bool shared = options.ranks_share_replicated && plan.ranks.size() > 1;
  absl::StrAppendFormat(&out, "%d rank%s, %s: memory per rank\n", plan.ranks.size(),
                        plan.ranks.size() == 1 ? "" : "s", DTypeName(options.dtype));
  AppendLine("replicated", Size(plan.replicated_bytes),
             shared ? "one copy for all ranks, each is charged its share"
                    : "attention, router, embedding, head, norms",
             out);
  AppendLine("experts", Range(plan, &RankLoadPlan::expert_bytes, Size),
             absl::StrFormat("%s of %d, %s each", Range(plan, &RankLoadPlan::num_experts, Grouped),
                             plan.config.num_layers * plan.config.num_experts,
                             Size(plan.one_expert_bytes)),
             out);
  AppendLine("weights", absl::StrCat(Range(plan, &RankLoadPlan::weight_bytes, Size), " per rank"),
             "", out);
  AppendLine("rotary table", Size(plan.rotary_bytes), "", out);
  if (options.other_bytes > 0) {
    AppendLine("other", Size(options.other_bytes), "activations, exchange, workspace", out);
  }
  AppendLine("KV block", Size(plan.kv_block_bytes),
             absl::StrFormat("%d tokens, %s each", options.block_size,
                             Size(plan.kv_block_bytes / options.block_size)),
             out);
  if (!options.memory_budget_bytes) return;
  AppendLine("budget", Size(*options.memory_budget_bytes), "", out);
  int64_t total_tokens = 0;
  int64_t worst_need = 0;
  for (const RankLoadPlan& rank : plan.ranks) {
    total_tokens += rank.num_kv_tokens;
    if (!rank.fits) worst_need = std::max(worst_need, rank.needed_bytes + plan.kv_block_bytes);
  }
  AppendLine(
      "KV blocks that fit", Range(plan, &RankLoadPlan::num_kv_blocks, Grouped),
      absl::StrFormat("%s tokens per rank, %s in all",
                      Range(plan, &RankLoadPlan::num_kv_tokens, Grouped), Grouped(total_tokens)),
      out);
  if (worst_need > 0) {
    absl::StrAppendFormat(&out, "  DOES NOT FIT: weights and one KV block need %s, %s is allowed\n",
                          Size(worst_need), Size(*options.memory_budget_bytes));
  }
}

// "all 19" or places from 1, with runs: "1-3, 7".
std::string ShardsText(const LoadPlan& plan, const std::vector<int>& shards) {
  if (shards.size() == plan.shards.size()) return absl::StrCat("all ", shards.size());
  std::string text;
  for (size_t i = 0; i < shards.size();) {
    size_t last = i;
    while (last + 1 < shards.size() && shards[last + 1] == shards[last] + 1) ++last;
    absl::StrAppend(&text, text.empty() ? "" : ", ", shards[i] + 1);
    if (last > i) absl::StrAppend(&text, "-", shards[last] + 1);
    i = last + 1;
    if (text.size() > kMaxShardsColumns) {
      return absl::StrCat(shards.size(), " of ", plan.shards.size());
    }
  }
  return absl::StrCat(text, " of ", plan.shards.size());
}

void AppendRanks(const LoadPlan& plan, std::string& out) {
  absl::StrAppendFormat(&out, "\n  %4s  %7s  %10s", "rank", "experts", "weights");
  if (!plan.shards.empty()) absl::StrAppendFormat(&out, "  %10s  shards", "reads");
  absl::StrAppend(&out, "\n");
  for (size_t rank = 0; rank < std::min(plan.ranks.size(), kMaxRanksShown); ++rank) {
    const RankLoadPlan& rank_plan = plan.ranks[rank];
    absl::StrAppendFormat(&out, "  %4d  %7d  %10s", rank, rank_plan.num_experts,
                          Size(rank_plan.weight_bytes));
    if (!plan.shards.empty()) {
      absl::StrAppendFormat(&out, "  %10s  %s", Size(rank_plan.checkpoint_bytes),
                            ShardsText(plan, rank_plan.shards));
    }
    absl::StrAppend(&out, "\n");
  }
  if (plan.ranks.size() > kMaxRanksShown) {
    absl::StrAppendFormat(&out, "  and %d ranks more\n", plan.ranks.size() - kMaxRanksShown);
  }
}

}  // namespace

std::string FormatLoadPlan(const LoadPlan& plan) {
  std::string out;
  AppendModel(plan, out);
  AppendMemory(plan, out);
  AppendRanks(plan, out);
  if (!plan.warnings.empty()) absl::StrAppend(&out, "\n");
  for (const std::string& warning : plan.warnings)
    absl::StrAppend(&out, "warning: ", warning, "\n");
  return out;
}

}  // namespace moed
