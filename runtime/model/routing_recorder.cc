#include "runtime/model/routing_recorder.h"

#include <cstddef>

#include "kernels/core/check.h"

namespace moed {

RoutingRecorder::RoutingRecorder(int num_slots, int num_layers)
    : num_layers_(num_layers),
      has_last_(static_cast<size_t>(num_slots), false),
      last_(static_cast<size_t>(num_slots) * static_cast<size_t>(num_layers)) {}

int64_t RoutingRecorder::CountRepetition(const RoutedRows& step, int32_t slot, int64_t first_row,
                                         int64_t num_rows, absl::Span<int64_t> same_first,
                                         absl::Span<int64_t> any_shared) {
  MOED_CHECK(
      step.num_layers == num_layers_ && first_row >= 0 && first_row + num_rows <= step.num_rows,
      "rows of another step or model");
  if (num_rows == 0) return 0;
  const bool has_last = has_last_[static_cast<size_t>(slot)];
  for (int layer = 0; layer < num_layers_; ++layer) {
    Choices& last = last_[static_cast<size_t>(slot) * static_cast<size_t>(num_layers_) +
                          static_cast<size_t>(layer)];
    for (int64_t row = first_row; row < first_row + num_rows; ++row) {
      const Choices choices = {.first = step.at(layer, row, 0),
                               .second = step.width > 1 ? step.at(layer, row, 1) : -1};
      if (row > first_row || has_last) {
        const auto shared = [&last](int32_t expert) {
          return expert >= 0 && (expert == last.first || expert == last.second);
        };
        if (choices.first == last.first) ++same_first[static_cast<size_t>(layer)];
        if (shared(choices.first) || shared(choices.second)) {
          ++any_shared[static_cast<size_t>(layer)];
        }
      }
      last = choices;
    }
  }
  has_last_[static_cast<size_t>(slot)] = true;
  return has_last ? num_rows : num_rows - 1;
}

std::vector<int16_t> ChunkChoices(const RoutedRows& step, int64_t first_row, int64_t num_rows,
                                  int k) {
  MOED_CHECK(k >= 1 && k <= step.width && first_row + num_rows <= step.num_rows,
             "more choices or rows than a step has");
  std::vector<int16_t> choices;
  choices.reserve(static_cast<size_t>(num_rows * step.num_layers * k));
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    for (int layer = 0; layer < step.num_layers; ++layer) {
      for (int c = 0; c < k; ++c) {
        choices.push_back(static_cast<int16_t>(step.at(layer, row, c)));
      }
    }
  }
  return choices;
}

}  // namespace moed
