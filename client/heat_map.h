// The layer x expert load as text.
#pragma once

#include <string>

#include "moed/v1/experts.pb.h"

namespace moed {

// A table with a row a layer: tokens of each expert and how even they are. With `color` each cell
// is shaded by its share of the layer (ANSI, 256 colours).
std::string FormatHeatMap(const v1::GetExpertLoadResponse& load, bool color);

}  // namespace moed
