#include "server/app/start_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

constexpr const char* kKindNames[kNumMemoryKinds] = {"weights", "KV cache", "activations",
                                                     "exchange", "workspace"};

std::string RankMemory(const ThreadWorkerGroup& group, int rank) {
  std::string line = absl::StrCat("rank ", rank, ":");
  int64_t total = 0;
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    const int64_t bytes = group.allocated_bytes(rank, static_cast<MemoryKind>(kind));
    absl::StrAppend(&line, " ", kKindNames[kind], " ", FormatBytes(bytes), ",");
    total += bytes;
  }
  return absl::StrCat(line, " together ", FormatBytes(total));
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " bytes");
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  while (value >= 1024 && unit < 3) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.2f %s", value, kUnits[unit]);
}

std::vector<std::string> StartReport(const DaemonOptions& options, const ServedModel& model,
                                     const WorkerGroupInfo& info, const ThreadWorkerGroup& group) {
  const ModelConfig& config = model.config;
  std::vector<std::string> lines;
  lines.push_back(
      absl::StrFormat("model %s: %s, %d layers of %d experts, top-%d, context %d tokens, %s, %s",
                      model.name, config.architecture, config.num_layers, config.num_experts,
                      config.top_k, model.context_tokens, DTypeName(model.dtype),
                      model.tokenizer != nullptr ? "with a tokenizer" : "token ids only"));
  lines.push_back(absl::StrCat("backend: ", info.backend));
  for (int rank = 0; rank < info.num_ranks; ++rank) lines.push_back(RankMemory(group, rank));
  if (info.num_ranks > 1) lines.push_back("rank 0 holds the weights that the ranks share");
  lines.push_back(absl::StrFormat(
      "%d rank%s with %d KV blocks of %d tokens, up to %d sequences and %d tokens a step",
      info.num_ranks, info.num_ranks == 1 ? "" : "s, each", info.num_kv_blocks_per_rank,
      info.block_size, info.max_sequences_per_rank, info.max_rows_per_step));
  lines.push_back(absl::StrFormat(
      "exchange: %s%s", options.exchange,
      info.max_gather_rows == 0
          ? ""
          : absl::StrFormat(", gathering up to %d rows of a rank", info.max_gather_rows)));
  lines.push_back(options.no_prefix_cache ? "prefix cache: off" : "prefix cache: on");
  return lines;
}

std::vector<std::string> StartWarnings(const DaemonOptions& options) {
  std::vector<std::string> lines;
  if (options.capacity_factor > 0) {
    lines.push_back(absl::StrFormat(
        "--capacity-factor %g: experts leave out what is over it, so that answers depend on what "
        "else is computed; the same request and seed no longer give the same tokens",
        options.capacity_factor));
  }
  if (!options.emulate_rank.empty()) {
    lines.push_back(absl::StrCat("--emulate-rank ", options.emulate_rank,
                                 ": the other ranks are made up, to measure what a step takes; "
                                 "answers mean nothing"));
  }
  if (options.limits.routed_experts) {
    lines.push_back(
        "--allow-routed-experts: requests may ask which experts their tokens went to, from which "
        "text can be guessed");
  }
  if (options.expert_token_statistics) {
    lines.push_back(
        "--expert-token-statistics: counted tokens tell what requests were about to everyone who "
        "can connect");
  }
  return lines;
}

}  // namespace moed
