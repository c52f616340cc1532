// What moedctl can do. Each writes its result to stdout; the status is what main reports.
#pragma once

#include "absl/status/status.h"
#include "client/client_options.h"
#include "client/connection.h"

namespace moed {

absl::Status RunGenerate(const ClientOptions& options, Connection& connection);
absl::Status RunChat(const ClientOptions& options, Connection& connection);
absl::Status RunTokenize(const ClientOptions& options, Connection& connection);
absl::Status RunModel(const ClientOptions& options, Connection& connection);
absl::Status RunExperts(const ClientOptions& options, Connection& connection);
absl::Status RunRanks(const ClientOptions& options, Connection& connection);
absl::Status RunDrain(const ClientOptions& options, Connection& connection);
absl::Status RunAbort(const ClientOptions& options, Connection& connection);
absl::Status RunLogLevel(const ClientOptions& options, Connection& connection);

}  // namespace moed
