// Checkpoints of seeded weights for any config, written to disk for tests.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "runtime/checkpoint/dummy_weight_source.h"
#include "runtime/checkpoint/expected_tensors.h"
#include "runtime/checkpoint/model_config.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_directory.h"

namespace moed {

inline constexpr uint64_t kSyntheticSeed = 7;

// Every tensor that the config asks for, bfloat16, in the order of the forward pass.
inline std::vector<StoredTensor> SyntheticTensors(const ModelConfig& config) {
  DummyWeightSource source(kSyntheticSeed, DType::kBFloat16);
  std::vector<StoredTensor> tensors;
  ForEachExpectedTensor(config, [&](const ExpectedTensor& tensor) {
    const auto loaded = source.Load(tensor.name, tensor.shape);
    MOED_CHECK(loaded.ok(), "a seeded tensor");
    tensors.push_back({tensor.name, "BF16", tensor.shape,
                       std::string(static_cast<const char*>(loaded->view.raw()),
                                   static_cast<size_t>(loaded->view.bytes()))});
  });
  return tensors;
}

// Writes one file a shard and the index that says so; `shard_of` gives a tensor's file name.
inline void WriteShards(const TempDirectory& directory, const std::vector<StoredTensor>& tensors,
                        const std::function<std::string(const StoredTensor&)>& shard_of) {
  std::map<std::string, std::vector<StoredTensor>> shards;
  std::string index = "{\"metadata\":{},\"weight_map\":{";
  for (const StoredTensor& tensor : tensors) {
    const std::string shard = shard_of(tensor);
    absl::StrAppend(&index, shards.empty() ? "" : ",", "\"", tensor.name, "\":\"", shard, "\"");
    shards[shard].push_back(tensor);
  }
  directory.Write("model.safetensors.index.json", index + "}}");
  for (const auto& [shard, content] : shards) directory.Write(shard, SafetensorsBytes(content));
}

}  // namespace moed
