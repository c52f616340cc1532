// Where the experts live, as text.
#pragma once

#include <string>

#include "client/text_style.h"
#include "moed/v1/experts.pb.h"

namespace moed {

// A table with a row a layer: the rank of each expert; below it how many experts each rank holds.
// With colour each rank has one.
std::string FormatPlacement(const v1::GetPlacementResponse& placement, const TextStyle& style);

}  // namespace moed
