// What the experts specialise in, as text.
#pragma once

#include <string>

#include "moed/v1/experts.pb.h"

namespace moed {

// For each layer how faithful the router is to token ids, and for each expert the tokens that it
// received most, with the part of the token's occurrences that went there.
std::string FormatExpertTokens(const v1::GetExpertTokensResponse& tokens);

}  // namespace moed
