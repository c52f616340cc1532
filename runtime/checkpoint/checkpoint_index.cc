#include "runtime/checkpoint/checkpoint_index.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/json_document.h"
#include "runtime/checkpoint/json_fields.h"

namespace moed {
namespace {

constexpr JsonLimits kIndexLimits = {
    .max_bytes = int64_t{64} << 20, .max_depth = 8, .max_values = int64_t{1} << 20};
constexpr size_t kMaxNameChars = 255;  // of a file in Linux
constexpr size_t kMaxShards = 4096;

bool IsPlainShardName(absl::string_view name) {
  if (name.size() > kMaxNameChars || !absl::EndsWith(name, ".safetensors")) return false;
  return name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
           return c != '/' && c != '\\' && c >= 0x20;
         });
}

absl::StatusOr<std::optional<int64_t>> ParseTotalSize(const JsonFields& fields,
                                                      absl::string_view file) {
  const nlohmann::json* metadata = fields.Find("metadata");
  if (metadata == nullptr) return std::optional<int64_t>();
  if (!metadata->is_object()) return fields.Refuse("metadata", "an object");
  const JsonFields inner(*metadata, file, "metadata");
  const nlohmann::json* total = inner.Find("total_size");
  // Some tools write it as a float.
  if (total != nullptr && total->is_number_float()) {
    MOED_ASSIGN_OR_RETURN(const std::optional<double> number, inner.Number("total_size", 0, 1e18));
    return std::optional<int64_t>(static_cast<int64_t>(*number));
  }
  return inner.Integer("total_size", 0, std::numeric_limits<int64_t>::max());
}

}  // namespace

absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view json,
                                                     absl::string_view file) {
  MOED_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJsonObject(json, file, kIndexLimits));
  const JsonFields fields(document, file);
  CheckpointIndex index;
  index.file = std::string(file);
  MOED_ASSIGN_OR_RETURN(index.total_size_bytes, ParseTotalSize(fields, file));
  const nlohmann::json* weight_map = fields.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty()) {
    return fields.Refuse("weight_map", "an object that maps tensors to shards");
  }
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string() || !IsPlainShardName(shard.get_ref<const std::string&>())) {
      return TensorError(file, tensor,
                         "a shard in this directory, named by a plain file name that ends in "
                         "\".safetensors\"",
                         DescribeJson(shard));
    }
    index.shards.push_back(shard.get_ref<const std::string&>());
  }
  std::sort(index.shards.begin(), index.shards.end());
  index.shards.erase(std::unique(index.shards.begin(), index.shards.end()), index.shards.end());
  if (index.shards.size() > kMaxShards) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": expected at most ", kMaxShards,
                                                   " shards, found ", index.shards.size()));
  }
  for (const auto& [tensor, shard] : weight_map->items()) {
    const auto place = std::lower_bound(index.shards.begin(), index.shards.end(),
                                        shard.get_ref<const std::string&>());
    index.shard_of.emplace(tensor, static_cast<int>(place - index.shards.begin()));
  }
  return index;
}

}  // namespace moed
