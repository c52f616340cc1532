#include "runtime/checkpoint/checkpoint.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/dummy_weight_source.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/read_only_file.h"
#include "runtime/checkpoint/safetensors_checkpoint.h"
#include "runtime/checkpoint/weight_digests.h"

namespace moed {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;

bool IsRegularFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Ids of generation_config.json are checked here, where the vocabulary is known.
absl::Status CheckEosTokenIds(const GenerationDefaults& generation, const ModelConfig& config,
                              const std::string& file) {
  for (const int32_t id : generation.eos_token_ids) {
    if (id >= config.vocab_size) {
      return FieldError(file, "eos_token_id",
                        absl::StrCat("token ids below the vocabulary's ", config.vocab_size),
                        absl::StrCat(id));
    }
  }
  return absl::OkStatus();
}

void AddWarnings(const std::vector<std::string>& more, std::vector<std::string>& warnings) {
  warnings.insert(warnings.end(), more.begin(), more.end());
}

// Everything but the weights.
absl::StatusOr<CheckpointMetadata> ReadConfigs(const std::string& path, LoadFormat format) {
  const bool is_config_file = format == LoadFormat::kDummy && IsRegularFile(path);
  const std::string config_path = is_config_file ? path : absl::StrCat(path, "/config.json");
  CheckpointMetadata metadata;
  MOED_ASSIGN_OR_RETURN(const std::string config_json, ReadSmallFile(config_path, kMaxConfigBytes));
  MOED_ASSIGN_OR_RETURN(metadata.config, ParseModelConfig(config_json, config_path));
  AddWarnings(metadata.config.warnings, metadata.warnings);
  if (is_config_file) return metadata;
  const std::string generation_path = absl::StrCat(path, "/generation_config.json");
  if (IsRegularFile(generation_path)) {
    MOED_ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(generation_path, kMaxConfigBytes));
    MOED_ASSIGN_OR_RETURN(metadata.generation, ParseGenerationDefaults(json, generation_path));
    MOED_RETURN_IF_ERROR(CheckEosTokenIds(metadata.generation, metadata.config, generation_path));
    AddWarnings(metadata.generation.warnings, metadata.warnings);
  }
  const std::string tokenizer_path = absl::StrCat(path, "/tokenizer.model");
  if (IsRegularFile(tokenizer_path)) metadata.tokenizer_path = tokenizer_path;
  return metadata;
}

}  // namespace

absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view name) {
  if (name == "auto") return LoadFormat::kAuto;
  if (name == "safetensors") return LoadFormat::kSafetensors;
  if (name == "dummy") return LoadFormat::kDummy;
  return absl::InvalidArgumentError(absl::StrCat(
      "expected a load format of auto, safetensors or dummy, found ", QuoteName(name)));
}

absl::StatusOr<CheckpointMetadata> ReadCheckpointMetadata(const std::string& path,
                                                          LoadFormat format) {
  MOED_ASSIGN_OR_RETURN(CheckpointMetadata metadata, ReadConfigs(path, format));
  if (format != LoadFormat::kDummy) {
    MOED_ASSIGN_OR_RETURN(metadata.index, ReadCheckpointIndex(path));
  }
  return metadata;
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path,
                                            const CheckpointOptions& options) {
  Checkpoint checkpoint;
  MOED_ASSIGN_OR_RETURN(checkpoint.metadata, ReadConfigs(path, options.format));
  const ModelConfig& config = checkpoint.metadata.config;
  if (options.format == LoadFormat::kDummy) {
    if (options.verify) {
      return absl::InvalidArgumentError(
          "weights that are made up cannot be verified: leave out --verify-checkpoint or "
          "--load-format dummy");
    }
    const DType dtype =
        config.checkpoint_dtype == DType::kFloat32 ? DType::kFloat32 : DType::kBFloat16;
    checkpoint.weights = std::make_unique<DummyWeightSource>(options.dummy_seed, dtype);
    return checkpoint;
  }
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsCheckpoint> weights,
                        SafetensorsCheckpoint::Open(path));
  MOED_RETURN_IF_ERROR(weights->Verify(config, checkpoint.metadata.warnings));
  if (options.verify) {
    const auto& progress = options.verify_progress;
    MOED_RETURN_IF_ERROR(VerifyDigests(path, weights->index().shards, [&](double fraction) {
      return progress == nullptr || progress(fraction);
    }));
    weights->RefuseNonFinite();
  }
  checkpoint.metadata.index = weights->index();
  checkpoint.weights = std::move(weights);
  return checkpoint;
}

}  // namespace moed
