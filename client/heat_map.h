// The layer x expert load as text.
#pragma once

#include <string>

#include "client/text_style.h"
#include "moed/v1/experts.pb.h"

namespace moed {

// A table with a row a layer: tokens of each expert, each cell shaded by how its share compares
// with the mean, and how even the layer is. With colour the background is the shade: blue below
// the mean, grey at it, red above; else a block glyph is, higher where there is more. Where the
// columns do not hold the counts, only the shades are drawn; where they do not hold those, a cell
// stands for several experts and shows the busiest.
std::string FormatHeatMap(const v1::GetExpertLoadResponse& load, const TextStyle& style);

}  // namespace moed
