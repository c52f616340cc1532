// The weights of a Hugging Face directory: one safetensors file, or shards with an index.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/checkpoint/checkpoint_index.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/safetensors_file.h"
#include "runtime/checkpoint/weight_source.h"

namespace moed {

// Tensors are memory-mapped one by one when they are loaded, and unmapped when the LoadedTensor
// goes: what a rank does not load is never read, apart from the shards' headers.
class SafetensorsCheckpoint : public WeightSource {
 public:
  // Reads `directory`/model.safetensors or, when there is none, the shards that
  // model.safetensors.index.json names (the order of the Hugging Face library). Headers and
  // index must agree: a tensor that a shard lacks, that two shards hold or that the index does
  // not name is refused. NOT_FOUND when the directory has neither file.
  static absl::StatusOr<std::unique_ptr<SafetensorsCheckpoint>> Open(const std::string& directory);

  // Whether every tensor that `config` asks for is here, in its shape and a dtype of BF16, F16 or
  // F32; the error lists what is wrong. Tensors that it does not ask for are refused where
  // ignoring them would change the maths, else named in `warnings`.
  absl::Status Verify(const ModelConfig& config, std::vector<std::string>& warnings) const;

  // From now on Load reads every element, and answers DATA_LOSS, naming file, tensor and element,
  // where one is infinite or NaN. Before the first Load.
  void RefuseNonFinite() { refuse_non_finite_ = true; }

  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) override;

  // Which shard holds which tensor; made from the header when there is no index file.
  const CheckpointIndex& index() const { return index_; }
  // Bytes of all tensors loaded so far, by any rank.
  int64_t loaded_bytes() const { return loaded_bytes_.load(std::memory_order_relaxed); }

 private:
  SafetensorsCheckpoint(CheckpointIndex index, std::vector<SafetensorsFile> shards)
      : index_(std::move(index)), shards_(std::move(shards)) {}

  const CheckpointIndex index_;
  const std::vector<SafetensorsFile> shards_;  // in the order of index_.shards
  bool refuse_non_finite_ = false;
  std::atomic<int64_t> loaded_bytes_{0};
};

// The index of `directory` without opening its shards: from model.safetensors.index.json, or from
// the header of model.safetensors. NOT_FOUND when the directory has neither.
absl::StatusOr<CheckpointIndex> ReadCheckpointIndex(const std::string& directory);

// Whether the index names every tensor of `config`; as SafetensorsCheckpoint::Verify, without
// shapes.
absl::Status VerifyIndexNames(const ModelConfig& config, const CheckpointIndex& index,
                              std::vector<std::string>& warnings);

}  // namespace moed
