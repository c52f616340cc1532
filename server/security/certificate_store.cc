#include "server/security/certificate_store.h"

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "server/security/certificate_check.h"
#include "server/security/config_file.h"

namespace moed {
namespace {

// The error with the file that it is about.
absl::Status InFile(const char* what, const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(what, " ", path, ": ", status.message()));
}

absl::StatusOr<std::string> Read(const char* what, const std::string& path) {
  absl::StatusOr<std::string> content = ReadConfigFile(path, FileTrust::kAnyMode);
  if (!content.ok()) return InFile(what, path, content.status());
  return content;
}

absl::StatusOr<Certificates> ReadAll(const CertificatePaths& paths) {
  Certificates read;
  MOED_ASSIGN_OR_RETURN(read.certificate_pem, Read("certificate", paths.certificate));
  MOED_ASSIGN_OR_RETURN(read.key_pem, Read("TLS key", paths.key));
  if (paths.client_ca.empty()) return read;
  MOED_ASSIGN_OR_RETURN(read.client_ca_pem, Read("client CA", paths.client_ca));
  return read;
}

// When the server's certificate expires.
absl::StatusOr<std::chrono::system_clock::time_point> Check(const Certificates& certificates,
                                                            const CertificatePaths& paths) {
  auto expires_at =
      CheckCertificate(certificates.certificate_pem, std::chrono::system_clock::now());
  if (!expires_at.ok()) return InFile("certificate", paths.certificate, expires_at.status());
  MOED_RETURN_IF_ERROR(
      InFile("TLS key", paths.key, CheckKey(certificates.key_pem, certificates.certificate_pem)));
  if (!paths.client_ca.empty()) {
    MOED_RETURN_IF_ERROR(
        InFile("client CA", paths.client_ca, CheckClientCa(certificates.client_ca_pem)));
  }
  return expires_at;
}

}  // namespace

absl::StatusOr<std::shared_ptr<CertificateStore>> CertificateStore::Load(CertificatePaths paths) {
  std::shared_ptr<CertificateStore> store(new CertificateStore(std::move(paths)));
  MOED_RETURN_IF_ERROR(store->Reload().status());
  return store;
}

absl::StatusOr<bool> CertificateStore::Reload() {
  MutexLock reload_lock(reload_mutex_);
  MOED_ASSIGN_OR_RETURN(Certificates read, ReadAll(paths_));
  if (read == current()) return false;
  MOED_ASSIGN_OR_RETURN(const auto expires_at, Check(read, paths_));
  std::vector<Listener> listeners;
  {
    MutexLock lock(mutex_);
    current_ = read;
    ++version_;
    expires_at_ = expires_at;
    listeners = listeners_;
  }
  for (const Listener& listener : listeners) listener(read);
  return true;
}

Certificates CertificateStore::current() const {
  MutexLock lock(mutex_);
  return current_;
}

uint64_t CertificateStore::version() const {
  MutexLock lock(mutex_);
  return version_;
}

std::chrono::system_clock::time_point CertificateStore::expires_at() const {
  MutexLock lock(mutex_);
  return expires_at_;
}

void CertificateStore::OnChange(Listener listener) {
  MutexLock lock(mutex_);
  listeners_.push_back(std::move(listener));
}

}  // namespace moed
