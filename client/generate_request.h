// Options of the command line as a request.
#pragma once

#include "client/client_options.h"
#include "moed/v1/generation.pb.h"

namespace moed {

// Without a prompt. Options that were not given stay unset.
v1::StreamGenerateRequest MakeGenerateRequest(const ClientOptions& options);

}  // namespace moed
