// Where the daemon is, and how to prove who calls.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the name is the library's
class App;
}

namespace moed {

// What the command line says.
struct ConnectionOptions {
  std::string server = "127.0.0.1:9000";
  double timeout_seconds = 0;  // 0: none
  std::string key_file;        // empty: the environment's MOEDCTL_KEY, or no key
  bool tls = false;            // any of the files below turns it on too
  std::string tls_ca;          // empty: the machine's certificate authorities
  std::string tls_certificate;
  std::string tls_key;
  std::string tls_server_name;  // empty: the host of `server`
};

// What a channel is made of.
struct ConnectionCredentials {
  std::string key;  // empty: none
  bool tls = false;
  std::string ca_pem;
  std::string certificate_pem;
  std::string key_pem;
  std::string server_name;
};

// Declares the options, for the program and again for each command. `options` outlives `app`.
void AddConnectionOptions(CLI::App* app, ConnectionOptions& options);

// Reads the files and the environment. INVALID_ARGUMENT names the option at fault; no error shows
// what a file holds.
absl::StatusOr<ConnectionCredentials> LoadCredentials(const ConnectionOptions& options);

}  // namespace moed
