#include "kernels/cuda/row_ops.h"

#include "kernels/core/check.h"
#include "kernels/cuda/combine.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/fill_seeded.h"
#include "kernels/cuda/gather_rows.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/rotary_cache_write.h"

namespace moed::cuda {

void Embed(CudaStream& stream, const EmbedArgs& args) {
  if (args.out.empty()) return;
  EmbedParams params;
  params.input_tokens = args.input_tokens.data<int32_t>();
  params.last_sampled = args.last_sampled.data<int32_t>();
  params.table = args.table.raw();
  params.out = args.out.data<float>();
  params.num_tokens = args.out.dim(0);
  params.hidden = args.out.dim(1);
  params.act = args.table.dtype();
  stream.Note(LaunchEmbed(stream.context(), params), "Embed");
}

void RmsNorm(CudaStream& stream, const RmsNormArgs& args) {
  if (args.out.empty()) return;
  RmsNormParams params;
  params.x = args.x.data<float>();
  params.row_index = args.row_index.rank() == 0 ? nullptr : args.row_index.data<int32_t>();
  params.weight = args.weight.data<float>();
  params.out = args.out.raw();
  params.num_rows = args.out.dim(0);
  params.hidden = args.out.dim(1);
  params.epsilon = args.epsilon;
  params.act = args.out.dtype();
  stream.Note(LaunchRmsNorm(stream.context(), params), "RmsNorm");
}

void RotaryCacheWrite(CudaStream& stream, const RotaryCacheWriteArgs& args) {
  RotaryCacheWriteParams params;
  params.num_tokens = args.q.dim(0);
  params.num_heads = static_cast<int>(args.q.dim(1));
  params.num_kv_heads = static_cast<int>(args.k_cache.dim(1));
  params.head_dim = static_cast<int>(args.q.dim(2));
  params.block_size = static_cast<int>(args.k_cache.dim(2));
  if (args.qkv.empty()) return;
  params.qkv = args.qkv.data<float>();
  params.positions = args.positions.data<int32_t>();
  params.slot_mapping = args.slot_mapping.data<int32_t>();
  params.cos_sin = args.cos_sin.data<float>();
  params.q = args.q.data<float>();
  params.k_cache = args.k_cache.raw();
  params.v_cache = args.v_cache.raw();
  params.act = args.k_cache.dtype();
  stream.Note(LaunchRotaryCacheWrite(stream.context(), params), "RotaryCacheWrite");
}

void GatherRows(CudaStream& stream, const GatherRowsArgs& args) {
  if (args.out.empty()) return;
  GatherRowsParams params;
  params.x = args.x.raw();
  params.row_index = args.row_index.data<int32_t>();
  params.out = args.out.raw();
  params.num_rows = args.out.dim(0);
  params.row_bytes = args.out.bytes() / args.out.dim(0);
  stream.Note(LaunchGatherRows(stream.context(), params), "GatherRows");
}

void Combine(CudaStream& stream, const CombineArgs& args) {
  if (args.residual.empty() || args.contribution_index.empty()) return;
  CombineParams params;
  params.contributions = args.contributions.raw();
  params.contribution_index = args.contribution_index.data<int32_t>();
  params.topk_weights = args.topk_weights.data<float>();
  params.residual = args.residual.data<float>();
  params.num_tokens = args.residual.dim(0);
  params.hidden = args.residual.dim(1);
  params.top_k = args.contribution_index.dim(1);
  params.act = args.contributions.dtype();
  stream.Note(LaunchCombine(stream.context(), params), "Combine");
}

void FillSeeded(CudaStream& stream, const FillSeededArgs& args) {
  if (args.out.empty()) return;
  FillSeededParams params;
  params.key = args.key;
  params.out = args.out.raw();
  params.count = args.out.num_elements();
  params.dtype = args.out.dtype();
  stream.Note(LaunchFillSeeded(stream.context(), params), "FillSeeded");
}

void Convert(CudaStream& stream, ConstTensorView from, TensorView to) {
  MOED_CHECK(from.num_elements() == to.num_elements(),
             "a conversion between tensors of different sizes");
  MOED_CHECK(DTypeBytes(from.dtype()) == 2 || from.dtype() == DType::kFloat32,
             "a conversion from integers");
  MOED_CHECK(to.dtype() == DType::kFloat32 || to.dtype() == DType::kBFloat16,
             "a conversion to neither float32 nor bfloat16");
  if (to.empty()) return;
  ConvertParams params;
  params.from = from.raw();
  params.to = to.raw();
  params.count = to.num_elements();
  params.from_dtype = from.dtype();
  params.to_dtype = to.dtype();
  stream.Note(LaunchConvert(stream.context(), params), "Convert");
}

}  // namespace moed::cuda
