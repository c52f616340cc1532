#include "client/connection_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace moed {
namespace {

constexpr char kGroup[] = "Connection";

absl::StatusOr<std::string> ReadFile(absl::string_view option, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  // Not by iterators, which throw where the path is a directory's.
  if (file.is_open()) text << file.rdbuf();
  if (!file.is_open() || file.bad() || text.bad()) {
    return absl::InvalidArgumentError(absl::StrCat(option, ": cannot read ", path));
  }
  if (text.str().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(option, ": ", path, " is empty"));
  }
  return text.str();
}

// A key travels in a header: letters that are seen, and no second line.
absl::Status CheckKey(absl::string_view source, absl::string_view key) {
  const bool fits = !key.empty() && std::all_of(key.begin(), key.end(), [](char letter) {
    return absl::ascii_isgraph(static_cast<unsigned char>(letter));
  });
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(source, " must hold one key, its only line, without spaces"));
}

absl::StatusOr<std::string> LoadKey(const ConnectionOptions& options) {
  if (!options.key_file.empty()) {
    absl::StatusOr<std::string> text = ReadFile("--key-file", options.key_file);
    if (!text.ok()) return text.status();
    const std::string key(absl::StripAsciiWhitespace(*text));
    const absl::Status status = CheckKey(absl::StrCat("--key-file: ", options.key_file), key);
    if (!status.ok()) return status;
    return key;
  }
  const char* variable = std::getenv("MOEDCTL_KEY");
  if (variable == nullptr || *variable == '\0') return std::string();
  const absl::Status status = CheckKey("MOEDCTL_KEY", variable);
  if (!status.ok()) return status;
  return std::string(variable);
}

}  // namespace

void AddConnectionOptions(CLI::App* app, ConnectionOptions& o) {
  app->add_option("--server", o.server, "Address of the daemon, else MOED_SERVER")
      ->type_name("HOST:PORT")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--timeout", o.timeout_seconds, "Time that the call may take")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
  app->add_option("--key-file", o.key_file,
                  "File with the key that the daemon asks for as its only line, else MOEDCTL_KEY")
      ->type_name("FILE")
      ->group(kGroup);
  app->add_flag("--tls", o.tls, "Encrypt; the options below do so too")->group(kGroup);
  app->add_option("--tls-ca", o.tls_ca,
                  "PEM file of the authority that signed the daemon's certificate; default: the "
                  "machine's")
      ->type_name("FILE")
      ->group(kGroup);
  app->add_option("--tls-certificate", o.tls_certificate,
                  "PEM file to show to a daemon that asks for a client's certificate")
      ->type_name("FILE")
      ->group(kGroup);
  app->add_option("--tls-key", o.tls_key, "PEM file of that certificate's key")
      ->type_name("FILE")
      ->group(kGroup);
  app->add_option("--tls-server-name", o.tls_server_name,
                  "Name that the daemon's certificate must have; default: the server's host")
      ->type_name("NAME")
      ->group(kGroup);
}

absl::StatusOr<ConnectionCredentials> LoadCredentials(const ConnectionOptions& options) {
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-certificate and --tls-key belong together");
  }
  ConnectionCredentials credentials;
  absl::StatusOr<std::string> key = LoadKey(options);
  if (!key.ok()) return key.status();
  credentials.key = *std::move(key);
  credentials.server_name = options.tls_server_name;
  credentials.tls = options.tls || !options.tls_server_name.empty();
  struct File {
    const char* option;
    const std::string& path;
    std::string& pem;
  };
  for (const File& file :
       {File{"--tls-ca", options.tls_ca, credentials.ca_pem},
        File{"--tls-certificate", options.tls_certificate, credentials.certificate_pem},
        File{"--tls-key", options.tls_key, credentials.key_pem}}) {
    if (file.path.empty()) continue;
    absl::StatusOr<std::string> pem = ReadFile(file.option, file.path);
    if (!pem.ok()) return pem.status();
    file.pem = *std::move(pem);
    credentials.tls = true;
  }
  return credentials;
}

}  // namespace moed
