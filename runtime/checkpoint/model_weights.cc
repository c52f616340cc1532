#include "runtime/checkpoint/model_weights.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/expected_tensors.h"
#include "runtime/checkpoint/rotary_table.h"
#include "runtime/checkpoint/shape_view.h"

namespace moed {
namespace {

// Loads tensors one after the other, keeping count for progress and summary.
class TensorLoader {
 public:
  // `is_wanted` says which of the config's tensors this load will read, to know the total.
  TensorLoader(const ModelConfig& config, WeightSource& source, Backend& backend,
               const LoadProgress& progress,
               absl::FunctionRef<bool(const ExpectedTensor&)> is_wanted)
      : source_(source),
        backend_(backend),
        stream_(backend.CreateStream()),
        progress_(progress),
        element_bytes_(DTypeBytes(config.checkpoint_dtype)) {
    ForEachExpectedTensor(config, [&](const ExpectedTensor& tensor) {
      if (is_wanted(tensor)) total_bytes_ += tensor.num_elements() * element_bytes_;
    });
  }

  absl::Status Report() const {
    if (!progress_ || progress_(loaded_bytes_, total_bytes_)) return absl::OkStatus();
    return absl::CancelledError(absl::StrCat("loading was cancelled after ", loaded_bytes_, " of ",
                                             total_bytes_, " bytes"));
  }

  // In host memory, or on the backend's device where that can make it.
  absl::StatusOr<LoadedTensor> Load(absl::string_view name, const std::vector<int64_t>& shape) {
    const std::optional<SeededTensor> seeded = source_.Seeded(name);
    MOED_ASSIGN_OR_RETURN(LoadedTensor tensor,
                          seeded ? MakeSeeded(*seeded, shape) : source_.Load(name, shape));
    ++summary_.num_tensors;
    summary_.source_bytes += tensor.view.bytes();
    loaded_bytes_ += tensor.view.num_elements() * element_bytes_;
    MOED_RETURN_IF_ERROR(Report());
    return tensor;
  }

  void CountDeviceBytes(int64_t bytes) { summary_.device_bytes += bytes; }
  const LoadSummary& summary() const { return summary_; }

 private:
  absl::StatusOr<LoadedTensor> MakeSeeded(const SeededTensor& seeded,
                                          const std::vector<int64_t>& shape) {
    std::optional<int64_t> count = 1;
    for (const int64_t dim : shape) count = count ? CheckedMul(*count, dim) : std::nullopt;
    const std::optional<int64_t> bytes =
        count ? CheckedMul(*count, DTypeBytes(seeded.dtype)) : std::nullopt;
    if (!bytes) return absl::ResourceExhaustedError("a dummy tensor has too many elements");
    MOED_ASSIGN_OR_RETURN(Buffer storage, backend_.Allocate(MemoryKind::kWeights, *bytes));
    const TensorView view(storage.data(), seeded.dtype, {*count});
    backend_.FillSeeded(*stream_, {.key = seeded.key, .out = view});
    MOED_RETURN_IF_ERROR(backend_.Synchronize(*stream_));
    const ConstTensorView shaped = ViewOfShape(storage.data(), seeded.dtype, shape);
    return LoadedTensor{shaped, std::move(storage)};
  }

  WeightSource& source_;
  Backend& backend_;
  const std::unique_ptr<Stream> stream_;
  const LoadProgress& progress_;
  const int64_t element_bytes_;
  int64_t total_bytes_ = 0;
  int64_t loaded_bytes_ = 0;
  LoadSummary summary_;
};

absl::StatusOr<Buffer> LoadPlain(TensorLoader& loader, Backend& backend, absl::string_view name,
                                 const std::vector<int64_t>& shape, DType dtype) {
  MOED_ASSIGN_OR_RETURN(const LoadedTensor tensor, loader.Load(name, shape));
  MOED_ASSIGN_OR_RETURN(Buffer packed, backend.PackTensor(tensor.view, dtype));
  loader.CountDeviceBytes(packed.bytes());
  return packed;
}

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(TensorLoader& loader, Backend& backend,
                                                         absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> packed, backend.PackLinear(parts));
  loader.CountDeviceBytes(packed->bytes());
  return packed;
}

absl::StatusOr<LayerWeights> LoadLayer(const ModelConfig& config, int64_t layer,
                                       TensorLoader& loader, Backend& backend) {
  const int64_t hidden = config.hidden;
  LayerWeights weights;
  MOED_ASSIGN_OR_RETURN(
      weights.attention_norm,
      LoadPlain(loader, backend, LayerTensor(layer, "input_layernorm"), {hidden}, DType::kFloat32));
  {
    MOED_ASSIGN_OR_RETURN(const LoadedTensor q, loader.Load(LayerTensor(layer, "self_attn.q_proj"),
                                                            {config.q_features(), hidden}));
    MOED_ASSIGN_OR_RETURN(const LoadedTensor k, loader.Load(LayerTensor(layer, "self_attn.k_proj"),
                                                            {config.kv_features(), hidden}));
    MOED_ASSIGN_OR_RETURN(const LoadedTensor v, loader.Load(LayerTensor(layer, "self_attn.v_proj"),
                                                            {config.kv_features(), hidden}));
    MOED_ASSIGN_OR_RETURN(weights.qkv, PackLinear(loader, backend, {q.view, k.view, v.view}));
  }
  MOED_ASSIGN_OR_RETURN(const LoadedTensor o, loader.Load(LayerTensor(layer, "self_attn.o_proj"),
                                                          {hidden, config.q_features()}));
  MOED_ASSIGN_OR_RETURN(weights.o, PackLinear(loader, backend, {o.view}));
  MOED_ASSIGN_OR_RETURN(weights.ffn_norm,
                        LoadPlain(loader, backend, LayerTensor(layer, "post_attention_layernorm"),
                                  {hidden}, DType::kFloat32));
  MOED_ASSIGN_OR_RETURN(weights.router,
                        LoadPlain(loader, backend, LayerTensor(layer, "block_sparse_moe.gate"),
                                  {config.num_experts, hidden}, DType::kFloat32));
  return weights;
}

absl::StatusOr<std::unique_ptr<ExpertWeight>> LoadExpert(const ModelConfig& config, int64_t layer,
                                                         int64_t expert, TensorLoader& loader,
                                                         Backend& backend) {
  const std::vector<int64_t> up_shape = {config.ffn, config.hidden};
  const std::vector<int64_t> down_shape = {config.hidden, config.ffn};
  MOED_ASSIGN_OR_RETURN(const LoadedTensor w1,
                        loader.Load(ExpertTensor(layer, expert, "w1"), up_shape));
  MOED_ASSIGN_OR_RETURN(const LoadedTensor w2,
                        loader.Load(ExpertTensor(layer, expert, "w2"), down_shape));
  MOED_ASSIGN_OR_RETURN(const LoadedTensor w3,
                        loader.Load(ExpertTensor(layer, expert, "w3"), up_shape));
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<ExpertWeight> packed,
                        backend.PackExpert(w1.view, w2.view, w3.view));
  loader.CountDeviceBytes(packed->bytes());
  return packed;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReplicatedWeights>> LoadReplicatedWeights(
    const ModelConfig& config, WeightSource& source, Backend& backend,
    const LoadProgress& progress) {
  TensorLoader loader(config, source, backend, progress,
                      [](const ExpectedTensor& tensor) { return tensor.expert < 0; });
  MOED_RETURN_IF_ERROR(loader.Report());
  auto weights = std::make_unique<ReplicatedWeights>();
  const std::vector<int64_t> vocab_shape = {config.vocab_size, config.hidden};
  {
    MOED_ASSIGN_OR_RETURN(const LoadedTensor embedding, loader.Load(kEmbeddingTensor, vocab_shape));
    MOED_ASSIGN_OR_RETURN(weights->embedding,
                          backend.PackTensor(embedding.view, backend.activation_dtype()));
    loader.CountDeviceBytes(weights->embedding.bytes());
    if (config.tie_word_embeddings) {
      MOED_ASSIGN_OR_RETURN(weights->lm_head, PackLinear(loader, backend, {embedding.view}));
    }
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    MOED_ASSIGN_OR_RETURN(LayerWeights layer_weights, LoadLayer(config, layer, loader, backend));
    weights->layers.push_back(std::move(layer_weights));
  }
  MOED_ASSIGN_OR_RETURN(weights->final_norm, LoadPlain(loader, backend, kFinalNormTensor,
                                                       {config.hidden}, DType::kFloat32));
  if (!config.tie_word_embeddings) {
    MOED_ASSIGN_OR_RETURN(const LoadedTensor lm_head, loader.Load(kLmHeadTensor, vocab_shape));
    MOED_ASSIGN_OR_RETURN(weights->lm_head, PackLinear(loader, backend, {lm_head.view}));
  }
  MOED_ASSIGN_OR_RETURN(const Buffer table, MakeRotaryTable(config));
  MOED_ASSIGN_OR_RETURN(
      weights->cos_sin,
      backend.PackTensor(table.View(DType::kFloat32, {config.max_positions, config.head_dim}),
                         DType::kFloat32));
  loader.CountDeviceBytes(weights->cos_sin.bytes());
  weights->summary = loader.summary();
  return weights;
}

absl::StatusOr<std::unique_ptr<ExpertWeights>> LoadExpertWeights(const ModelConfig& config,
                                                                 const ExpertPlacement& placement,
                                                                 int rank, WeightSource& source,
                                                                 Backend& backend,
                                                                 const LoadProgress& progress) {
  TensorLoader loader(config, source, backend, progress, [&](const ExpectedTensor& tensor) {
    return tensor.expert >= 0 && placement.RankOf(static_cast<int>(tensor.layer),
                                                  static_cast<int>(tensor.expert)) == rank;
  });
  MOED_RETURN_IF_ERROR(loader.Report());
  auto weights = std::make_unique<ExpertWeights>();
  weights->experts.resize(static_cast<size_t>(config.num_layers));
  for (int layer = 0; layer < static_cast<int>(config.num_layers); ++layer) {
    for (const int32_t expert : placement.ExpertsOn(rank, layer)) {
      MOED_ASSIGN_OR_RETURN(std::unique_ptr<ExpertWeight> packed,
                            LoadExpert(config, layer, expert, loader, backend));
      weights->experts[static_cast<size_t>(layer)].push_back(std::move(packed));
    }
  }
  weights->summary = loader.summary();
  return weights;
}

}  // namespace moed
