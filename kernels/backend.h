// The compute seam: what a device can do. The forward pass is written once against this class;
// kernels/cpu implements it, and a GPU plugin will.
//
// Contract of every operation:
//  - It is enqueued on `stream` and runs in the stream's order (on the CPU: at once).
//  - Views are dense and row-major, live on the device, and stay valid until the stream has run
//    the call. Outputs do not overlap inputs unless the field says "in place".
//  - `act` is the activation dtype, float32 or bfloat16, fixed when the backend is made. Products
//    are accumulated in float32, norms and softmax are float32.
//  - Any leading dimension may be 0; the call then does nothing.
//  - Every output row depends on its own input row only, and is summed in an order that does not
//    depend on how many rows there are, on their order, or on the number of threads ("same bits").
//  - It allocates nothing: scratch memory comes from PrepareWorkspace.
// One backend belongs to one rank and is used by one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "kernels/core/token_bias.h"

namespace moed {

// What device memory is spent on; the keys of the start-up report.
enum class MemoryKind : uint8_t { kWeights, kKvCache, kActivations, kExchange, kWorkspace };
inline constexpr int kNumMemoryKinds = 5;

// A linear layer's weight in the backend's own layout and dtype. Immutable once packed, so that
// the rank threads of a process may share one.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t in_features() const = 0;
  virtual int64_t out_features() const = 0;
  virtual int64_t bytes() const = 0;
};

// One expert's SwiGLU weights in the backend's own layout; gate and up may be interleaved.
class ExpertWeight {
 public:
  virtual ~ExpertWeight() = default;
  virtual int64_t bytes() const = 0;
};

// Largest sizes of any later call; a backend sizes its scratch memory from them.
struct WorkspaceLimits {
  int64_t max_rows = 0;         // rows of one step on this rank
  int64_t max_expert_rows = 0;  // rows that may arrive from all ranks in one dispatch
  int64_t max_logit_rows = 0;   // rows with logits in one step
  int64_t max_context_tokens = 0;
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
};

struct EmbedArgs {
  ConstTensorView input_tokens;  // [num_tokens] int32; t >= 0: the token id; t < 0: the token last
                                 // sampled in slot -1 - t
  ConstTensorView last_sampled;  // [num_slots] int32
  ConstTensorView table;         // [vocab, hidden] act
  TensorView out;                // [num_tokens, hidden] float32
};

// RMSNorm (Zhang and Sennrich 2019, equation 4): out = x / sqrt(mean(x^2) + epsilon) * weight.
struct RmsNormArgs {
  ConstTensorView x;          // [num_tokens, hidden] float32
  ConstTensorView row_index;  // [num_rows] int32, the rows of x to take; a default view: all
  ConstTensorView weight;     // [hidden] float32
  float epsilon = 0;
  TensorView out;  // [num_rows, hidden] act
};

struct LinearArgs {
  ConstTensorView x;                     // [num_rows, in_features] act
  const LinearWeight* weight = nullptr;  // [out_features, in_features]
  bool accumulate = false;               // true: out += x W^T (float32 only); false: out = x W^T
  TensorView out;                        // [num_rows, out_features] float32 or act
};

// Rotary embedding (Su et al. 2021) in the half-split form of the Hugging Face checkpoints: within
// a head, element i pairs with element i + head_dim / 2. Queries are rotated to `q`; keys are
// rotated and stored, with the values, in the paged cache in its dtype.
struct RotaryCacheWriteArgs {
  ConstTensorView qkv;           // [num_tokens, (num_heads + 2 num_kv_heads) * head_dim] float32
  ConstTensorView positions;     // [num_tokens] int32
  ConstTensorView slot_mapping;  // [num_tokens] int32: block * block_size + offset in the block
  ConstTensorView cos_sin;  // [max_positions, head_dim] float32: cos of head_dim/2 angles, then
                            // sin
  TensorView q;             // [num_tokens, num_heads, head_dim] float32
  TensorView k_cache;       // [num_blocks, num_kv_heads, block_size, head_dim] act
  TensorView v_cache;       // [num_blocks, num_kv_heads, block_size, head_dim] act
};

// Causal grouped-query attention over the paged cache. The rows of chunk c are the last
// chunk_starts[c + 1] - chunk_starts[c] tokens of a context of context_lengths[c] tokens, all
// of which are in the cache already. Keys and values are read from the cache only.
struct PagedAttentionArgs {
  ConstTensorView q;                // [num_tokens, num_heads, head_dim] float32
  ConstTensorView k_cache;          // [num_blocks, num_kv_heads, block_size, head_dim] act
  ConstTensorView v_cache;          // as k_cache
  ConstTensorView chunk_starts;     // [num_chunks + 1] int32, ascending; the last is num_tokens
  ConstTensorView context_lengths;  // [num_chunks] int32
  ConstTensorView block_tables;     // [num_chunks, max_blocks] int32
  float scale = 0;                  // of q . k, 1 / sqrt(head_dim)
  int32_t sliding_window = 0;       // 0: none; w: position p sees (p - w, p]
  TensorView out;                   // [num_tokens, num_heads * head_dim] act
};

// How scores become weights. Mixtral: top-k of the raw logits, then softmax over the chosen k.
enum class RouterScoring : uint8_t { kTopKThenSoftmax };

struct RouteArgs {
  ConstTensorView x;       // [num_tokens, hidden] act
  ConstTensorView weight;  // [num_experts, hidden] float32
  RouterScoring scoring = RouterScoring::kTopKThenSoftmax;
  ConstTensorView num_choices;  // [num_tokens] int32 in [1, top_k]: the k of each row; a default
                                // view: top_k for all
  TensorView topk_ids;  // [num_tokens, top_k] int32, by falling logit; ties: the lower id first;
                        // -1 past the row's k
  TensorView topk_weights;  // [num_tokens, top_k] float32, they sum to 1; 0 past the row's k
};

// counts[e] += number of entries of topk_ids equal to e. Negative ids are not counted.
struct CountChoicesArgs {
  ConstTensorView topk_ids;  // [num_tokens, top_k] int32
  TensorView counts;         // [num_experts] int64, in place
};

// Leaves every expert at most `capacity` pairs: ids past it become -1, and so take no part in what
// follows, and the row gets nothing in their place (weights stay as they are). Pairs are served all
// first choices first, in the order of the rows, then all second ones, and so on (Lepikhin et al.
// 2021, "GShard", algorithm 1, with the rank's own rows as the group).
struct LimitLoadArgs {
  int64_t capacity = 0;     // >= 0
  int64_t num_experts = 0;  // ids are below it
  TensorView topk_ids;      // [num_tokens, top_k] int32, in place; negative: no pair
  TensorView dropped;       // [num_tokens] int32, in place: += pairs that the row lost
};

// The plan of an exact dispatch on the home rank. A row goes once to every rank that holds one or
// more of its experts; one contribution a pair comes back. Negative ids are no pairs.
struct PlanSendArgs {
  ConstTensorView topk_ids;        // [num_tokens, top_k] int32
  ConstTensorView rank_of_expert;  // [num_experts] int32
  TensorView send_row_index;       // [num_tokens * min(top_k, num_ranks)] int32: grouped by
                                   // destination rank, ascending row within
  TensorView send_counts;          // [num_ranks] int32: rows to each rank
  TensorView reply_counts;         // [num_ranks] int32: contributions back from each rank
  TensorView contribution_index;   // [num_tokens, top_k] int32: place of a pair's contribution when
                                   // the replies lie by rank, then row, then choice; -1: no pair
};

// The same index for the gather strategy's static slots: the c-th choice of row t that lives on
// rank p, as the j-th of the row's choices there, comes back at (p * padded_rows + t) *
// slots_per_row + j.
struct IndexStaticSlotsArgs {
  ConstTensorView topk_ids;        // [num_tokens, top_k] int32
  ConstTensorView rank_of_expert;  // [num_experts] int32
  int64_t padded_rows = 0;         // >= num_tokens
  int64_t slots_per_row = 0;
  TensorView contribution_index;  // [num_tokens, top_k] int32, -1: no pair
};

// On the expert's rank: which arrived rows each local expert computes, and where each result goes.
struct GroupByExpertArgs {
  ConstTensorView topk_ids;  // [num_rows, top_k] int32 of the arrived rows; negative: no pair
  ConstTensorView local_expert_of;  // [num_experts] int32: local expert id, or -1 when not here
  int64_t slots_per_row = 0;  // 0: results lie compactly by row, then choice; s: the j-th local
                              // choice of row r goes to r * s + j
  TensorView expert_offsets;  // [num_local_experts + 1] int32 into the two below
  TensorView row_index;  // [num_rows * min(top_k, num_local_experts)] int32, by expert, then row
  TensorView out_index;  // same shape: row of the result
};

// out[i] = x[row_index[i]] for whole rows of any dtype.
struct GatherRowsArgs {
  ConstTensorView x;          // [num_x_rows, width] any dtype
  ConstTensorView row_index;  // [num_rows] int32
  TensorView out;             // [num_rows, width] dtype of x
};

// For local expert e and every i in [expert_offsets[e], expert_offsets[e + 1]):
//   out[out_index[i]] = W2 (silu(W1 x[row_index[i]]) * (W3 x[row_index[i]])),
// silu(z) = z / (1 + exp(-z)) (SwiGLU, Shazeer 2020). Rows of `out` that no index names are left.
struct ExpertFfnArgs {
  ConstTensorView x;                              // [num_rows, hidden] act
  absl::Span<const ExpertWeight* const> experts;  // [num_local_experts]
  ConstTensorView expert_offsets;                 // [num_local_experts + 1] int32
  ConstTensorView row_index;                      // [num_pairs or more] int32
  ConstTensorView out_index;                      // [num_pairs or more] int32
  TensorView out;                                 // [num_out_rows, hidden] act
};

// residual[t] += sum over c, in this order, of topk_weights[t][c] *
// contributions[contribution_index[t][c]]: a float32 sum of the terms first, then the addition.
// Contributions that no index names are not read. Index -1 adds nothing.
struct CombineArgs {
  ConstTensorView contributions;       // [num_contributions, hidden] act
  ConstTensorView contribution_index;  // [num_tokens, top_k] int32
  ConstTensorView topk_weights;        // [num_tokens, top_k] float32
  TensorView residual;                 // [num_tokens, hidden] float32, in place
};

inline constexpr int kMaxLogprobs = 20;

// A token that was in the prompt or has been drawn; what the penalties look at.
struct SeenToken {
  int32_t token_id = 0;
  int32_t num_drawn = 0;  // how often the continuation has it
  bool in_prompt = false;
};

// How one row of logits becomes a token, in this order (that of the logits processors of Hugging
// Face Transformers, which lacks some; vLLM's sampler cuts by min_p before top_k):
//  1. logit_bias is added.
//  2. repetition_penalty r, for tokens in the prompt or drawn: l / r where l > 0, else l * r
//     (Keskar et al. 2019, "CTRL", section 4.1, with the sign rule of Hugging Face).
//  3. frequency_penalty * num_drawn and, where num_drawn > 0, presence_penalty are taken off
//     (OpenAI API reference).
//  4. All but allowed_token_ids, and all suppressed_token_ids, are removed.
//  5. Temperature 0 takes the largest logit (ties: the lowest id). Otherwise logits are divided by
//     the temperature; then top_k, top_p, min_p and typical_p cut the distribution, each over what
//     the one before has left.
//  6. One uniform draw from Philox4x32-10 (Salmon et al. 2011) with key `seed` and counter
//     (choice_index, position) picks by the inverse of the cumulative sum over ids by falling
//     probability.
// Where 4 leaves nothing, the lowest allowed id that is not suppressed is taken, else the lowest
// allowed id, else 0.
struct SamplingRow {
  int32_t slot = 0;          // last_sampled[slot] receives the token
  float temperature = 1.0F;  // >= 0
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0F;        // (0, 1]
  float min_p = 0.0F;        // [0, 1]: tokens below min_p times the largest probability go
  // (0, 1]; 1: off. Keeps the tokens whose surprise -ln p is nearest to the entropy, nearest first
  // (ties: the more likely), until their probabilities reach typical_p (Meister et al. 2023,
  // "Locally Typical Sampling").
  float typical_p = 1.0F;
  uint64_t seed = 0;
  uint32_t choice_index = 0;  // which of a request's n continuations
  int64_t position = 0;       // of the token that is drawn
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  float repetition_penalty = 1.0F;  // > 0
  // Host memory; every id in [0, vocab), none twice in one list but suppressed_token_ids.
  absl::Span<const SeenToken> seen;  // read where a penalty is set
  absl::Span<const TokenBias> logit_bias;
  absl::Span<const int32_t> allowed_token_ids;     // empty: all
  absl::Span<const int32_t> suppressed_token_ids;  // probability 0
};

struct SampleArgs {
  ConstTensorView logits;              // [num_rows, vocab] float32
  absl::Span<const SamplingRow> rows;  // [num_rows], host memory
  TensorView last_sampled;             // [num_slots] int32, in place
  TensorView token_ids;                // [num_rows] int32
  // Log-softmax of the raw logits, before temperature and cuts: of the token, and the kMaxLogprobs
  // largest with ids (ties: the lower id first).
  TensorView logprobs;      // [num_rows] float32
  TensorView top_ids;       // [num_rows, kMaxLogprobs] int32; -1 past the vocabulary
  TensorView top_logprobs;  // [num_rows, kMaxLogprobs] float32
  bool want_top = false;    // false: the two `top` outputs are left unwritten
};

// Log-softmax of given tokens and of the most likely ones, as SampleArgs has them.
struct TokenLogprobsArgs {
  ConstTensorView logits;   // [num_rows, vocab] float32
  ConstTensorView targets;  // [num_rows] int32 in [0, vocab)
  TensorView logprobs;      // [num_rows] float32: of the targets
  TensorView top_ids;       // [num_rows, kMaxLogprobs] int32; -1 past the vocabulary
  TensorView top_logprobs;  // [num_rows, kMaxLogprobs] float32
};

// out[i] = SeededElement(key, i) of kernels/core/seeded_values.h, rounded to the dtype of `out`:
// weights without a checkpoint, made where they are needed.
struct FillSeededArgs {
  uint64_t key = 0;
  TensorView out;  // any shape, float32 or bfloat16
};

// The time that a stretch of a stream's work took, as the device tells it.
class StreamTimer {
 public:
  virtual ~StreamTimer() = default;
  // Enqueue the ends of the stretch.
  virtual void Start(Stream& stream) = 0;
  virtual void Stop(Stream& stream) = 0;
  // Of the last stretch; once the stream has run it (Backend::Synchronize).
  virtual double seconds() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // One line for the start log: device, instruction set, threads.
  virtual std::string Description() const = 0;
  virtual DType activation_dtype() const = 0;

  // Memory. Allocate gives zeroed device memory, 64-byte aligned; RESOURCE_EXHAUSTED with sizes.
  virtual absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) = 0;
  // Zeroed host memory, 64-byte aligned, that copies to and from the device do best with (on a GPU
  // page-locked). Not counted. Errors as Allocate.
  virtual absl::StatusOr<Buffer> AllocateStaging(int64_t bytes) = 0;
  // Bytes allocated so far on behalf of `kind`, packed weights included.
  virtual int64_t allocated_bytes(MemoryKind kind) const = 0;
  // Takes kWorkspace for calls within the limits; INVALID_ARGUMENT where it cannot serve them.
  virtual absl::Status PrepareWorkspace(const WorkspaceLimits& limits) = 0;
  // What PrepareWorkspace would take, or its INVALID_ARGUMENT; the largest int64_t where that is
  // too much to count. Allocates nothing.
  virtual absl::StatusOr<int64_t> WorkspaceBytes(const WorkspaceLimits& limits) const = 0;

  virtual std::unique_ptr<Stream> CreateStream() = 0;
  // Blocks until the stream has run all that was enqueued; the first error of any of it.
  virtual absl::Status Synchronize(Stream& stream) = 0;
  // Sizes must be equal. Host memory must stay valid until the stream has run the call.
  virtual void CopyToDevice(Stream& stream, ConstTensorView host, TensorView device) = 0;
  virtual void CopyToHost(Stream& stream, ConstTensorView device, TensorView host) = 0;
  // Both in device memory, of one size, without overlap.
  virtual void CopyOnDevice(Stream& stream, ConstTensorView from, TensorView to) = 0;
  virtual std::unique_ptr<StreamTimer> CreateTimer() = 0;

  // Weights, from tensors in host memory or on this device, in float32, bfloat16 or float16. The
  // parts [n_i, in_features] are stacked along their first axis. The sources may go once the call
  // has returned.
  virtual absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
      absl::Span<const ConstTensorView> parts) = 0;
  virtual absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(
      ConstTensorView w1,       // gate, [ffn, hidden]
      ConstTensorView w2,       // down, [hidden, ffn]
      ConstTensorView w3) = 0;  // up, [ffn, hidden]
  // A plain device tensor of `source`'s shape in `dtype` (embedding table, norm and router
  // weights).
  virtual absl::StatusOr<Buffer> PackTensor(ConstTensorView source, DType dtype) = 0;

  virtual void Embed(Stream& stream, const EmbedArgs& args) = 0;
  virtual void RmsNorm(Stream& stream, const RmsNormArgs& args) = 0;
  virtual void Linear(Stream& stream, const LinearArgs& args) = 0;
  virtual void RotaryCacheWrite(Stream& stream, const RotaryCacheWriteArgs& args) = 0;
  virtual void PagedAttention(Stream& stream, const PagedAttentionArgs& args) = 0;
  virtual void Route(Stream& stream, const RouteArgs& args) = 0;
  virtual void CountChoices(Stream& stream, const CountChoicesArgs& args) = 0;
  virtual void LimitLoad(Stream& stream, const LimitLoadArgs& args) = 0;
  virtual void PlanSend(Stream& stream, const PlanSendArgs& args) = 0;
  virtual void IndexStaticSlots(Stream& stream, const IndexStaticSlotsArgs& args) = 0;
  virtual void GroupByExpert(Stream& stream, const GroupByExpertArgs& args) = 0;
  virtual void GatherRows(Stream& stream, const GatherRowsArgs& args) = 0;
  virtual void ExpertFfn(Stream& stream, const ExpertFfnArgs& args) = 0;
  virtual void Combine(Stream& stream, const CombineArgs& args) = 0;
  virtual void FillSeeded(Stream& stream, const FillSeededArgs& args) = 0;
  virtual void Sample(Stream& stream, const SampleArgs& args) = 0;
  virtual void TokenLogprobs(Stream& stream, const TokenLogprobsArgs& args) = 0;
};

}  // namespace moed
