// What a rank makes of its router's choices, on the host: repetition, records and traces. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// The choices of one step's rows, a view. `ids` by falling logit; -1 past a row's k.
struct RoutedRows {
  absl::Span<const int32_t> ids;  // [num_layers, num_rows, width]
  int num_layers = 0;
  int64_t num_rows = 0;
  int width = 0;

  int32_t at(int layer, int64_t row, int choice) const {
    return ids[static_cast<size_t>((layer * num_rows + row) * width + choice)];
  }
};

// Keeps the first two choices of every slot's last row, in every layer.
class RoutingRecorder {
 public:
  RoutingRecorder(int num_slots, int num_layers);

  // The slot's next row has no predecessor.
  void Forget(int32_t slot) { has_last_[static_cast<size_t>(slot)] = false; }

  // Rows [first_row, first_row + num_rows) follow the slot's last one. Of those that have a
  // predecessor it adds to same_first[layer] the rows with the predecessor's first choice, and to
  // any_shared[layer] those that share a first or second choice with it, in whichever order (Jiang
  // et al. 2024, "Mixtral of Experts", table 5); both [num_layers]. Returns their number.
  int64_t CountRepetition(const RoutedRows& step, int32_t slot, int64_t first_row, int64_t num_rows,
                          absl::Span<int64_t> same_first, absl::Span<int64_t> any_shared);

 private:
  struct Choices {
    int32_t first = -1;
    int32_t second = -1;  // -1: none
  };
  const int num_layers_;
  std::vector<bool> has_last_;  // [num_slots]
  std::vector<Choices> last_;   // [num_slots, num_layers]
};

// The first k choices of a chunk's rows: [num_rows, num_layers, k], in the order of choice.
std::vector<int16_t> ChunkChoices(const RoutedRows& step, int64_t first_row, int64_t num_rows,
                                  int k);

}  // namespace moed
