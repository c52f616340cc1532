#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/packed_matrix.h"
#include "kernels/cpu/fast/panel_product.h"

namespace moed::fast {
namespace {

// Pairs lie by expert. They are computed in passes of what the workspace holds of inner
// activations; each pass multiplies by gate and up, then by down, over (segment, panel) items.
class FfnPass {
 public:
  FfnPass(const Context& context, const ExpertFfnArgs& args)
      : context_(context),
        isa_(context.isa),
        args_(args),
        offsets_(args.expert_offsets.data<int32_t>()),
        out_index_(args.out_index.data<int32_t>()),
        x_rows_(ReadyRows(context, args.x, args.row_index.data<int32_t>())),
        hidden_(args.x.dim(1)),
        inner_bytes_(context.act == DType::kBFloat16 && isa_.bf16_pairs ? 2 : 4) {
    for (size_t e = 0; e < args.experts.size(); ++e) {
      if (offsets_[e] == offsets_[e + 1]) continue;
      const PackedExpert& expert = Expert(static_cast<int64_t>(e));
      MOED_CHECK(expert.hidden() == hidden_ && expert.gate_up().dtype() == context.act,
                 "ExpertFfn: an expert has another hidden size, or is another backend's");
      MOED_CHECK(ffn_ == 0 || ffn_ == expert.ffn(), "ExpertFfn: experts differ in ffn");
      ffn_ = expert.ffn();
    }
    MOED_CHECK(ffn_ <= context.workspace.ffn, "ExpertFfn: ffn exceeds the workspace's limits");
  }

  void Run(int64_t begin, int64_t end) {
    pass_begin_ = begin;
    FindSegments(begin, end);
    const int64_t columns = isa_.panel_columns;
    ForPanels((ffn_ + columns / 2 - 1) / (columns / 2), hidden_,
              [this](const ExpertSegment& segment, int64_t panel, float* c) {
                GateUp(segment, panel, c);
              });
    ForPanels(
        (hidden_ + columns - 1) / columns, ffn_,
        [this](const ExpertSegment& segment, int64_t panel, float* c) { Down(segment, panel, c); });
  }

 private:
  const PackedExpert& Expert(int64_t e) const {
    const auto* expert = dynamic_cast<const PackedExpert*>(args_.experts[static_cast<size_t>(e)]);
    MOED_CHECK(expert != nullptr, "ExpertFfn: an expert was packed by another kind of backend");
    return *expert;
  }

  void FindSegments(int64_t begin, int64_t end) {
    num_segments_ = 0;
    for (size_t e = 0; e < args_.experts.size(); ++e) {
      const int64_t from = std::max<int64_t>(begin, offsets_[e]);
      const int64_t to = std::min<int64_t>(end, offsets_[e + 1]);
      if (from >= to) continue;
      MOED_CHECK(num_segments_ < context_.workspace.num_segments,
                 "ExpertFfn: more experts than the workspace's limits");
      context_.workspace.segments[num_segments_++] = {
          static_cast<int32_t>(e), static_cast<int32_t>(from), static_cast<int32_t>(to)};
    }
    longest_segment_ = 0;
    for (int64_t s = 0; s < num_segments_; ++s) {
      const ExpertSegment& segment = context_.workspace.segments[s];
      longest_segment_ = std::max<int64_t>(longest_segment_, segment.end - segment.begin);
    }
  }

  template <typename Body>
  void ForPanels(int64_t num_panels, int64_t in_features, Body body) {
    const int64_t num_items = num_segments_ * num_panels;
    const int64_t item_work = PanelWork(isa_, in_features, longest_segment_);
    context_.pool.ParallelFor(num_items, Grain(context_.pool, num_items, item_work),
                              [&](int64_t begin, int64_t end) {
                                const ScratchSlots::Lease lease(context_.workspace.slots);
                                for (int64_t item = begin; item < end; ++item) {
                                  body(context_.workspace.segments[item / num_panels],
                                       item % num_panels, lease.data<float>());
                                }
                              });
  }

  std::byte* Inner(int64_t pair) const {
    return static_cast<std::byte*>(context_.workspace.ffn_inner) +
           (pair - pass_begin_) * ffn_ * inner_bytes_;
  }

  void GateUp(const ExpertSegment& segment, int64_t panel, float* c) const {
    const int64_t half = isa_.panel_columns / 2;
    const int64_t column = panel * half;
    const int64_t count = std::min(half, ffn_ - column);
    float* product = c + kProductRowBlock * isa_.panel_columns;
    for (int64_t first = segment.begin; first < segment.end; first += kProductRowBlock) {
      const int64_t rows = std::min<int64_t>(kProductRowBlock, segment.end - first);
      MultiplyPanel(isa_, Expert(segment.expert).gate_up(), panel, x_rows_, first, rows, c);
      for (int64_t i = 0; i < rows; ++i) {
        const float* gate = c + i * isa_.panel_columns;
        isa_.silu_multiply(gate, gate + half, count, product);
        StoreInner(product, count, Inner(first + i) + column * inner_bytes_);
      }
    }
  }

  // The inner activation is rounded to the activation dtype, also where it is kept in float32.
  void StoreInner(float* values, int64_t count, std::byte* to) const {
    if (context_.act == DType::kBFloat16 && !isa_.bf16_pairs) {
      uint16_t rounded[kMaxHalfColumns];
      isa_.narrow(values, count, rounded);
      isa_.widen(rounded, count, reinterpret_cast<float*>(to));
      return;
    }
    StoreRow(isa_, values, count, context_.act, to);
  }

  void Down(const ExpertSegment& segment, int64_t panel, float* c) const {
    const int64_t column = panel * isa_.panel_columns;
    const int64_t count = std::min<int64_t>(isa_.panel_columns, hidden_ - column);
    const int64_t element_bytes = DTypeBytes(context_.act);
    for (int64_t first = segment.begin; first < segment.end; first += kProductRowBlock) {
      const int64_t rows = std::min<int64_t>(kProductRowBlock, segment.end - first);
      const ProductRows inner{Inner(first), ffn_ * inner_bytes_, nullptr};
      MultiplyPanel(isa_, Expert(segment.expert).down(), panel, inner, 0, rows, c);
      for (int64_t i = 0; i < rows; ++i) {
        std::byte* out = static_cast<std::byte*>(args_.out.raw()) +
                         (out_index_[first + i] * hidden_ + column) * element_bytes;
        StoreRow(isa_, c + i * isa_.panel_columns, count, context_.act, out);
      }
    }
  }

  static constexpr int64_t kMaxHalfColumns = 64;

  const Context& context_;
  const IsaKernels& isa_;
  const ExpertFfnArgs& args_;
  const int32_t* offsets_;
  const int32_t* out_index_;
  const ProductRows x_rows_;
  const int64_t hidden_;
  const int64_t inner_bytes_;
  int64_t ffn_ = 0;
  int64_t pass_begin_ = 0;
  int64_t num_segments_ = 0;
  int64_t longest_segment_ = 0;
};

}  // namespace

void ExpertFfn(const Context& context, const ExpertFfnArgs& args) {
  const int64_t num_pairs = args.expert_offsets.data<int32_t>()[args.experts.size()];
  if (num_pairs == 0) return;
  const int32_t* row_index = args.row_index.data<int32_t>();
  const int32_t* out_index = args.out_index.data<int32_t>();
  MOED_CHECK(num_pairs <= args.row_index.dim(0) && num_pairs <= args.out_index.dim(0),
             "ExpertFfn: row_index or out_index is too short");
  for (int64_t i = 0; i < num_pairs; ++i) {
    MOED_CHECK(row_index[i] >= 0 && row_index[i] < args.x.dim(0) && out_index[i] >= 0 &&
                   out_index[i] < args.out.dim(0),
               "ExpertFfn: a row or result index is out of range");
  }
  const int64_t pass_pairs = context.workspace.ffn_pairs;
  MOED_CHECK(pass_pairs > 0, "ExpertFfn: the workspace has no rows for experts");
  FfnPass pass(context, args);
  for (int64_t begin = 0; begin < num_pairs; begin += pass_pairs) {
    pass.Run(begin, std::min(begin + pass_pairs, num_pairs));
  }
}

}  // namespace moed::fast
