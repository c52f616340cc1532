// A Hugging Face directory, opened and checked as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/checkpoint_index.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/weight_source.h"

namespace moed {

enum class LoadFormat : uint8_t {
  kAuto,         // safetensors; never dummy weights by accident
  kSafetensors,  // model.safetensors, or shards with an index
  kDummy,        // seeded weights for config.json
};

// "auto", "safetensors" or "dummy"; INVALID_ARGUMENT for another name.
absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view name);

struct CheckpointOptions {
  LoadFormat format = LoadFormat::kAuto;
  uint64_t dummy_seed = 0;
  // Compares the shards with SHA256SUMS where that lies beside them (VerifyDigests), and lets
  // WeightSource::Load refuse tensors with infinities or NaN. INVALID_ARGUMENT with kDummy.
  bool verify = false;
  // While digests are compared: the part that is done; false ends it, CANCELLED. May be unset.
  std::function<bool(double)> verify_progress = nullptr;
};

// What can be known without opening the shards: enough for MakeLoadPlan and the tokenizer.
struct CheckpointMetadata {
  ModelConfig config;
  GenerationDefaults generation;              // all unset without generation_config.json
  std::optional<std::string> tokenizer_path;  // of tokenizer.model where there is one
  std::optional<CheckpointIndex> index;       // absent with LoadFormat::kDummy
  std::vector<std::string> warnings;          // of all of them, for the start log
};

// `path` is a directory with config.json; with kDummy it may also be a config file itself.
// NOT_FOUND where config.json or the weights are absent, INVALID_ARGUMENT with file, field,
// expected and found where something is malformed.
absl::StatusOr<CheckpointMetadata> ReadCheckpointMetadata(const std::string& path,
                                                          LoadFormat format);

struct Checkpoint {
  // As above, and every shard's header is read: names, shapes and dtypes of all tensors that the
  // config asks for are checked, so that a bad checkpoint is refused before a weight is loaded.
  static absl::StatusOr<Checkpoint> Open(const std::string& path, const CheckpointOptions& options);

  CheckpointMetadata metadata;
  std::unique_ptr<WeightSource> weights;  // thread-safe: shared by the rank threads
};

}  // namespace moed
