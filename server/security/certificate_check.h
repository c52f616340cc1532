// Whether a certificate, its key and the client CA will do for TLS.
#pragma once

#include <chrono>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

// When the server's certificate, the first of the PEM, expires. INVALID_ARGUMENT for PEM that does
// not parse, a certificate that is not valid at `now`, or what OpenSSL would not serve.
absl::StatusOr<std::chrono::system_clock::time_point> CheckCertificate(
    absl::string_view certificate_pem, std::chrono::system_clock::time_point now);

// INVALID_ARGUMENT for PEM that does not parse, a key with a passphrase, or one of another
// certificate. `certificate_pem` has passed CheckCertificate.
absl::Status CheckKey(absl::string_view key_pem, absl::string_view certificate_pem);

// INVALID_ARGUMENT unless the PEM holds certificates, and only such that parse.
absl::Status CheckClientCa(absl::string_view client_ca_pem);

}  // namespace moed
