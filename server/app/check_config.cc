#include "server/app/check_config.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/app/dry_run.h"
#include "server/app/model_options.h"
#include "server/security/certificate_store.h"
#include "server/security/key_ring.h"

namespace moed {
namespace {

absl::Status CheckModel(const DaemonOptions& options) {
  if (options.model.empty() || options.model == kNullModel) return absl::OkStatus();
  MOED_ASSIGN_OR_RETURN(const LoadFormat format, ParseLoadFormat(options.load_format));
  MOED_ASSIGN_OR_RETURN(const CheckpointMetadata metadata,
                        ReadCheckpointMetadata(options.model, format));
  MOED_RETURN_IF_ERROR(CheckExpertsPerToken(options, metadata.config));
  MOED_ASSIGN_OR_RETURN(const DType dtype, ActivationDType(options, metadata.config));
  MOED_RETURN_IF_ERROR(KvBlocksPerRank(options, metadata.config, dtype).status());
  MOED_RETURN_IF_ERROR(DryRun(options).status());
  if (!metadata.tokenizer_path.has_value()) return absl::OkStatus();
  return Tokenizer::Load(*metadata.tokenizer_path).status();
}

absl::Status CheckKernels(const DaemonOptions& options) {
  MOED_ASSIGN_OR_RETURN(const ComputeDevice device, ChooseDevice(options));
  if (device.is_gpu()) return absl::OkStatus();
  MOED_ASSIGN_OR_RETURN(const CpuIsa isa, ParseCpuIsa(options.cpu_isa));
  return MakeCpuBackend({.isa = isa}).status();
}

absl::Status CheckKeys(const DaemonOptions& options) {
  if (options.key_file.empty()) return absl::OkStatus();
  return KeyRing::Load(options.key_file).status();
}

absl::Status CheckCertificates(const DaemonOptions& options) {
  if (options.tls_certificate.empty() || options.tls_key.empty()) return absl::OkStatus();
  return CertificateStore::Load({.certificate = options.tls_certificate,
                                 .key = options.tls_key,
                                 .client_ca = options.tls_client_ca})
      .status();
}

// Whether the host is an address or a name of one.
absl::Status CheckHost(absl::string_view flag, const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (absl::StartsWith(host, "[")) host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (found != nullptr) freeaddrinfo(found);
  if (error == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": ", address, ": ", gai_strerror(error)));
}

absl::Status CheckPortFile(const DaemonOptions& options) {
  if (options.port_file.empty()) return absl::OkStatus();
  std::filesystem::path directory = std::filesystem::path(options.port_file).parent_path();
  if (directory.empty()) directory = ".";
  if (access(directory.c_str(), W_OK) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(
      errno, absl::StrCat("--port-file: nothing can be written to ", directory.string()));
}

}  // namespace

std::vector<absl::Status> CheckConfig(const DaemonOptions& options) {
  std::vector<absl::Status> problems;
  const auto check = [&](absl::Status status) {
    if (!status.ok()) problems.push_back(std::move(status));
  };
  check(CheckModel(options));
  if (options.model != kNullModel) check(CheckKernels(options));
  check(CheckKeys(options));
  check(CheckCertificates(options));
  for (const std::string& address : options.listen) check(CheckHost("listen", address));
  for (const std::string& address : options.admin_listen) check(CheckHost("admin-listen", address));
  check(CheckPortFile(options));
  return problems;
}

}  // namespace moed
