// What the ranks hold and do, as text.
#pragma once

#include <string>

#include "client/text_style.h"
#include "moed/v1/admin.pb.h"

namespace moed {

// An earlier answer, to tell what the ranks did since; without one it is told since their start.
struct EarlierRanks {
  const v1::ListRanksResponse* ranks = nullptr;
  double seconds = 0;  // between the two
};

// "ready; 3 running, 1 waiting".
std::string FormatPhase(const v1::ListRanksResponse& ranks);

// A row a rank, with bars for the use of its KV cache and for what its time went to; while loading
// with one for how far it is.
std::string FormatRanks(const v1::ListRanksResponse& ranks, const EarlierRanks& earlier,
                        const TextStyle& style);

}  // namespace moed
