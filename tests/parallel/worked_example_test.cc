// The worked example of docs/expert_parallelism.md: every row of its tables is computed here, by
// the same code that serves, and must stand in the page as it is.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/core/status.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/token_dispatcher.h"
#include "tests/parallel/poisoning_backend.h"
#include "tests/parallel/rank_threads.h"

namespace moed {
namespace {

constexpr int kNumRanks = 4;
constexpr int kNumExperts = 8;
constexpr int64_t kTopK = 2;
constexpr int64_t kPaddedRows = 3;

// Rows A to H. Row A holds the number 1, B 2, and so on: hidden is 1. Expert e multiplies by e + 1.
constexpr std::array<int, kNumRanks + 1> kHomeStarts = {0, 3, 5, 6, 8};
constexpr std::array<std::array<int32_t, 2>, 8> kIds = {
    {{0, 1}, {4, 0}, {5, 2}, {1, 5}, {2, 0}, {3, 6}, {7, 4}, {0, 2}}};
constexpr std::array<float, 2> kWeights = {0.75F, 0.25F};

std::string RowName(int row) { return std::string(1, static_cast<char>('A' + row)); }
int HomeRank(int row) {
  int rank = 0;
  while (row >= kHomeStarts[static_cast<size_t>(rank) + 1]) ++rank;
  return rank;
}

template <typename T>
std::string List(const std::vector<T>& values) {
  return values.empty() ? "none" : absl::StrJoin(values, " ");
}

std::vector<int32_t> Ints(ConstTensorView view, int64_t count) {
  const auto* data = view.data<int32_t>();
  return std::vector<int32_t>(data, data + count);
}

// A number or "-" for memory that nobody has written.
std::vector<std::string> Numbers(ConstTensorView view) {
  std::vector<std::string> numbers;
  for (int64_t i = 0; i < view.num_elements(); ++i) {
    const float value = view.data<float>()[i];
    numbers.push_back(std::isnan(value) ? "-" : absl::StrCat(value));
  }
  return numbers;
}

// What one rank sees in one exchange.
struct RankView {
  std::vector<std::string> arrived;  // row names; "-" for padding
  std::vector<int32_t> expert_offsets;
  std::vector<int32_t> row_index;
  std::vector<int32_t> out_index;
  std::vector<std::string> expert_output;
  std::vector<float> residual;
};

using Page = std::vector<RankView>;

std::unique_ptr<Backend> MakeBackend() {
  return std::make_unique<PoisoningBackend>(
      MakeCpuBackend(CpuBackendOptions{CpuIsa::kReference, DType::kFloat32, nullptr}).value());
}

ConstTensorView IdsView(int rank) {
  const int first = kHomeStarts[static_cast<size_t>(rank)];
  const int count = kHomeStarts[static_cast<size_t>(rank) + 1] - first;
  return ConstTensorView(kIds[static_cast<size_t>(first)].data(), DType::kInt32, {count, kTopK});
}

absl::StatusOr<RankView> ExchangeOnce(Communicator& communicator, ExchangeStrategy strategy) {
  const int rank = communicator.rank();
  const ExpertPlacement placement = ExpertPlacement::Even(1, kNumExperts, kNumRanks);
  const std::unique_ptr<Backend> backend = MakeBackend();
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  MOED_ASSIGN_OR_RETURN(
      const std::unique_ptr<TokenDispatcher> dispatcher,
      TokenDispatcher::Create(
          *backend, communicator, placement,
          {.max_rows = 3, .max_gather_rows = kPaddedRows, .hidden = 1, .top_k = kTopK}));
  const ConstTensorView ids = IdsView(rank);
  const int64_t num_tokens = ids.dim(0);
  std::vector<float> rows;
  std::vector<float> weights;
  for (int64_t row = 0; row < num_tokens; ++row) {
    rows.push_back(static_cast<float>(kHomeStarts[static_cast<size_t>(rank)] + row + 1));
    weights.insert(weights.end(), kWeights.begin(), kWeights.end());
  }
  MOED_ASSIGN_OR_RETURN(
      DispatchHandle handle,
      dispatcher->Dispatch(*stream, 0, 0, {strategy, kPaddedRows},
                           ConstTensorView(rows.data(), DType::kFloat32, {num_tokens, 1}), ids));

  RankView view;
  const auto experts = placement.ExpertsOn(rank, 0);
  view.expert_offsets = Ints(handle.expert_offsets(), static_cast<int64_t>(experts.size()) + 1);
  view.row_index = Ints(handle.row_index(), view.expert_offsets.back());
  view.out_index = Ints(handle.out_index(), view.expert_offsets.back());
  const auto* arrived = handle.rows().data<float>();
  for (int64_t row = 0; row < handle.rows().dim(0); ++row) {
    view.arrived.push_back(std::isnan(arrived[row]) ? "-"
                                                    : RowName(static_cast<int>(arrived[row]) - 1));
  }
  for (size_t local = 0; local < experts.size(); ++local) {
    for (int32_t i = view.expert_offsets[local]; i < view.expert_offsets[local + 1]; ++i) {
      const auto place = static_cast<size_t>(i);
      handle.expert_output().data<float>()[view.out_index[place]] =
          static_cast<float>(experts[local] + 1) * arrived[view.row_index[place]];
    }
  }
  view.expert_output = Numbers(handle.expert_output());
  view.residual.resize(static_cast<size_t>(num_tokens));
  MOED_RETURN_IF_ERROR(
      dispatcher->Combine(*stream, std::move(handle),
                          ConstTensorView(weights.data(), DType::kFloat32, {num_tokens, kTopK}),
                          TensorView(view.residual.data(), DType::kFloat32, {num_tokens, 1})));
  return view;
}

Page RunExample(ExchangeStrategy strategy) {
  Page page(kNumRanks);
  const auto group = MakeGroup(kNumRanks);
  for (const absl::Status& status : RunRanks(*group, [&](Communicator& communicator) {
         auto view = ExchangeOnce(communicator, strategy);
         if (view.ok()) page[static_cast<size_t>(communicator.rank())] = *view;
         return view.status();
       })) {
    EXPECT_TRUE(status.ok()) << status;
  }
  return page;
}

std::set<std::string> DocLines() {
  std::ifstream file(std::string(MOED_SOURCE_DIR) + "/docs/expert_parallelism.md");
  std::set<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.insert(line);
  return lines;
}

void ExpectInDoc(const std::vector<std::string>& rows) {
  static const std::set<std::string>* const kLines = new std::set<std::string>(DocLines());
  for (const std::string& row : rows) {
    EXPECT_TRUE(kLines->contains(row)) << "docs/expert_parallelism.md lacks the line:\n" << row;
  }
}

std::string TableRow(const std::vector<std::string>& cells) {
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |");
}

// "A: 0 3, B: 1 2" for the rows of a home rank.
std::string PerRow(int rank, const std::vector<int32_t>& values) {
  std::vector<std::string> parts;
  for (int row = kHomeStarts[static_cast<size_t>(rank)];
       row < kHomeStarts[static_cast<size_t>(rank) + 1]; ++row) {
    const size_t place = parts.size() * kTopK;
    parts.push_back(absl::StrCat(RowName(row), ": ", values[place], " ", values[place + 1]));
  }
  return absl::StrJoin(parts, ", ");
}

TEST(WorkedExample, Routing) {
  std::vector<std::string> table;
  for (int row = 0; row < 8; ++row) {
    const auto& ids = kIds[static_cast<size_t>(row)];
    table.push_back(TableRow({RowName(row), absl::StrCat(row + 1), absl::StrCat(HomeRank(row)),
                              absl::StrCat(ids[0], ", ", ids[1]),
                              absl::StrCat(ids[0] % kNumRanks, ", ", ids[1] % kNumRanks)}));
  }
  ExpectInDoc(table);
}

TEST(WorkedExample, ExactPlanOfTheHomeRanks) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  const ExpertPlacement placement = ExpertPlacement::Even(1, kNumExperts, kNumRanks);
  const auto rank_of_expert = placement.RankOfExpert(0);
  std::vector<std::string> table;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const ConstTensorView ids = IdsView(rank);
    const int64_t num_tokens = ids.dim(0);
    std::vector<int32_t> index(static_cast<size_t>(num_tokens * kTopK), -1);
    std::vector<int32_t> counts(kNumRanks);
    std::vector<int32_t> replies(kNumRanks);
    std::vector<int32_t> places(index.size());
    const auto view = [](std::vector<int32_t>& values) {
      return TensorView(values.data(), DType::kInt32, {static_cast<int64_t>(values.size())});
    };
    backend->PlanSend(
        *stream,
        PlanSendArgs{
            .topk_ids = ids,
            .rank_of_expert = ConstTensorView(rank_of_expert.data(), DType::kInt32, {kNumExperts}),
            .send_row_index = view(index),
            .send_counts = view(counts),
            .reply_counts = view(replies),
            .contribution_index = TensorView(places.data(), DType::kInt32, {num_tokens, kTopK})});
    std::vector<std::string> lists;
    size_t next = 0;
    for (const int32_t count : counts) {
      std::vector<std::string> names;
      for (int32_t i = 0; i < count; ++i) {
        names.push_back(RowName(kHomeStarts[static_cast<size_t>(rank)] + index[next++]));
      }
      lists.push_back(List(names));
    }
    index.resize(next);
    table.push_back(TableRow({absl::StrCat(rank), absl::StrJoin(lists, " / "), List(index),
                              List(counts), List(replies), PerRow(rank, places)}));
  }
  ExpectInDoc(table);
}

TEST(WorkedExample, ExactGroupsOnTheExpertsRanks) {
  const Page page = RunExample(ExchangeStrategy::kExact);
  std::vector<std::string> table;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const RankView& view = page[static_cast<size_t>(rank)];
    table.push_back(TableRow({absl::StrCat(rank), absl::StrCat(rank, ", ", rank + kNumRanks),
                              List(view.arrived), List(view.expert_offsets), List(view.row_index),
                              List(view.out_index), List(view.expert_output)}));
  }
  ExpectInDoc(table);
}

TEST(WorkedExample, GatherGroupsOnTheExpertsRanks) {
  const Page page = RunExample(ExchangeStrategy::kGather);
  std::vector<std::string> table;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const RankView& view = page[static_cast<size_t>(rank)];
    table.push_back(TableRow({absl::StrCat(rank), List(view.arrived), List(view.expert_offsets),
                              List(view.row_index), List(view.out_index)}));
    table.push_back(TableRow({absl::StrCat(rank), List(view.expert_output)}));
  }
  ExpectInDoc(table);
}

TEST(WorkedExample, GatherPlacesOfTheHomeRanks) {
  const std::unique_ptr<Backend> backend = MakeBackend();
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  const ExpertPlacement placement = ExpertPlacement::Even(1, kNumExperts, kNumRanks);
  std::vector<std::string> table;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const ConstTensorView ids = IdsView(rank);
    std::vector<int32_t> places(static_cast<size_t>(ids.num_elements()));
    backend->IndexStaticSlots(
        *stream,
        IndexStaticSlotsArgs{
            .topk_ids = ids,
            .rank_of_expert =
                ConstTensorView(placement.RankOfExpert(0).data(), DType::kInt32, {kNumExperts}),
            .padded_rows = kPaddedRows,
            .slots_per_row = 2,
            .contribution_index = TensorView(places.data(), DType::kInt32, {ids.dim(0), kTopK})});
    table.push_back(TableRow({absl::StrCat(rank), PerRow(rank, places)}));
  }
  ExpectInDoc(table);
}

TEST(WorkedExample, BothStrategiesCombineToTheSameSums) {
  const Page exact = RunExample(ExchangeStrategy::kExact);
  const Page gather = RunExample(ExchangeStrategy::kGather);
  std::vector<std::string> table;
  for (int row = 0; row < 8; ++row) {
    const auto rank = static_cast<size_t>(HomeRank(row));
    const auto place = static_cast<size_t>(row - kHomeStarts[rank]);
    const float sum = exact[rank].residual[place];
    EXPECT_EQ(gather[rank].residual[place], sum) << "row " << RowName(row);
    const auto& ids = kIds[static_cast<size_t>(row)];
    const int first = (ids[0] + 1) * (row + 1);
    const int second = (ids[1] + 1) * (row + 1);
    table.push_back(
        TableRow({RowName(row), absl::StrCat(first, ", ", second),
                  absl::StrCat("0.75 x ", first, " + 0.25 x ", second), absl::StrCat(sum)}));
  }
  ExpectInDoc(table);
}

}  // namespace
}  // namespace moed
