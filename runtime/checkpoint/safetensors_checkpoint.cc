#include "runtime/checkpoint/safetensors_checkpoint.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/expected_tensors.h"
#include "runtime/checkpoint/finite_weights.h"
#include "runtime/checkpoint/read_only_file.h"

namespace moed {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;
constexpr int64_t kMaxWarnings = 16;

std::string PathIn(const std::string& directory, absl::string_view name) {
  return absl::StrCat(directory, "/", name);
}

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

absl::Status NeitherFile(const std::string& directory) {
  return absl::NotFoundError(absl::StrCat(directory, ": expected ", kSingleFile, " or ", kIndexFile,
                                          ", found neither (--load-format dummy makes seeded "
                                          "weights for any config)"));
}

absl::StatusOr<CheckpointIndex> ReadIndexFile(const std::string& path) {
  MOED_ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(path, kMaxIndexBytes));
  return ParseCheckpointIndex(json, path);
}

CheckpointIndex IndexOfSingleFile(const SafetensorsFile& file) {
  CheckpointIndex index;
  index.file = file.path();
  index.shards.emplace_back(kSingleFile);
  int64_t total = 0;
  for (const auto& [name, entry] : file.header().tensors) {
    index.shard_of.emplace(name, 0);
    total += entry.end - entry.begin;  // at most the file's size: the header was checked
  }
  index.total_size_bytes = total;
  return index;
}

// Index and headers must tell the same story.
absl::Status CheckShards(const CheckpointIndex& index, const std::vector<SafetensorsFile>& shards) {
  ProblemList problems;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const auto& [name, entry] : shards[i].header().tensors) {
      const auto place = index.shard_of.find(name);
      if (place == index.shard_of.end()) {
        problems.Add(TensorError(index.file, name, "every tensor of the shards in weight_map",
                                 absl::StrCat("it only in ", index.shards[i])));
      } else if (place->second != static_cast<int>(i)) {
        problems.Add(TensorError(
            index.file, name,
            absl::StrCat("it in ", index.shards[static_cast<size_t>(place->second)], " only"),
            absl::StrCat("it in ", index.shards[i], " too")));
      }
    }
  }
  for (const auto& [name, shard] : index.shard_of) {
    const SafetensorsFile& file = shards[static_cast<size_t>(shard)];
    if (file.header().tensors.find(name) == file.header().tensors.end()) {
      problems.Add(TensorError(file.path(), name, "it here, as the index says", "no such tensor"));
    }
  }
  return problems.ToStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsCheckpoint>> SafetensorsCheckpoint::Open(
    const std::string& directory) {
  std::vector<SafetensorsFile> shards;
  CheckpointIndex index;
  if (Exists(PathIn(directory, kSingleFile))) {
    MOED_ASSIGN_OR_RETURN(SafetensorsFile file,
                          SafetensorsFile::Open(PathIn(directory, kSingleFile)));
    index = IndexOfSingleFile(file);
    shards.push_back(std::move(file));
  } else if (Exists(PathIn(directory, kIndexFile))) {
    MOED_ASSIGN_OR_RETURN(index, ReadIndexFile(PathIn(directory, kIndexFile)));
    shards.reserve(index.shards.size());
    for (const std::string& shard : index.shards) {
      MOED_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(PathIn(directory, shard)));
      shards.push_back(std::move(file));
    }
    MOED_RETURN_IF_ERROR(CheckShards(index, shards));
  } else {
    return NeitherFile(directory);
  }
  return std::unique_ptr<SafetensorsCheckpoint>(
      new SafetensorsCheckpoint(std::move(index), std::move(shards)));
}

absl::Status SafetensorsCheckpoint::Verify(const ModelConfig& config,
                                           std::vector<std::string>& warnings) const {
  MOED_RETURN_IF_ERROR(VerifyIndexNames(config, index_, warnings));
  ProblemList problems;
  ForEachExpectedTensor(config, [&](const ExpectedTensor& tensor) {
    const int shard = index_.shard_of.find(tensor.name)->second;
    problems.Add(shards_[static_cast<size_t>(shard)].Check(tensor.name, tensor.shape));
  });
  return problems.ToStatus();
}

absl::StatusOr<LoadedTensor> SafetensorsCheckpoint::Load(absl::string_view name,
                                                         const std::vector<int64_t>& shape) {
  const auto place = index_.shard_of.find(name);
  if (place == index_.shard_of.end()) {
    return TensorError(index_.file, name, ShapeText(shape), "no such tensor");
  }
  const SafetensorsFile& file = shards_[static_cast<size_t>(place->second)];
  MOED_ASSIGN_OR_RETURN(LoadedTensor tensor, file.Load(name, shape));
  if (refuse_non_finite_) {
    const std::optional<int64_t> bad = FirstNonFinite(tensor.view);
    if (bad.has_value()) {
      return absl::DataLossError(absl::StrCat(file.path(), ": tensor ", QuoteName(name),
                                              ": expected numbers, found an infinity or NaN at "
                                              "element ",
                                              *bad));
    }
  }
  loaded_bytes_.fetch_add(tensor.view.bytes(), std::memory_order_relaxed);
  return tensor;
}

absl::StatusOr<CheckpointIndex> ReadCheckpointIndex(const std::string& directory) {
  if (Exists(PathIn(directory, kSingleFile))) {
    MOED_ASSIGN_OR_RETURN(const SafetensorsFile file,
                          SafetensorsFile::Open(PathIn(directory, kSingleFile)));
    return IndexOfSingleFile(file);
  }
  if (!Exists(PathIn(directory, kIndexFile))) return NeitherFile(directory);
  return ReadIndexFile(PathIn(directory, kIndexFile));
}

absl::Status VerifyIndexNames(const ModelConfig& config, const CheckpointIndex& index,
                              std::vector<std::string>& warnings) {
  ProblemList problems;
  std::set<std::string, std::less<>> expected;
  ForEachExpectedTensor(config, [&](const ExpectedTensor& tensor) {
    expected.insert(tensor.name);
    if (index.shard_of.find(tensor.name) == index.shard_of.end()) {
      problems.Add(TensorError(index.file, tensor.name, ShapeText(tensor.shape), "no such tensor"));
    }
  });
  int64_t num_ignored = 0;
  for (const auto& [name, shard] : index.shard_of) {
    if (expected.find(name) != expected.end()) continue;
    const ExtraTensor extra = ClassifyExtraTensor(config, name);
    if (extra == ExtraTensor::kRefused) {
      problems.Add(TensorError(index.file, name, "only tensors that the config asks for",
                               "one that would change the result"));
    } else if (extra == ExtraTensor::kIgnored && ++num_ignored <= kMaxWarnings) {
      warnings.push_back(absl::StrCat(index.file, ": tensor ", QuoteName(name),
                                      " is ignored: the config does not ask for it"));
    }
  }
  if (num_ignored > kMaxWarnings) {
    warnings.push_back(
        absl::StrCat(index.file, ": ", num_ignored - kMaxWarnings, " more tensors are ignored"));
  }
  return problems.ToStatus();
}

}  // namespace moed
