#include "server/security/certificate_check.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <climits>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

struct OpenSslFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
template <typename T>
using OpenSslPtr = std::unique_ptr<T, OpenSslFree>;

using CalendarTime = std::chrono::system_clock::time_point;

// Also empties the thread's queue of errors, which later calls would find.
std::string LastError() {
  const unsigned long error = ERR_peek_last_error();  // NOLINT(google-runtime-int): OpenSSL's
  const char* reason = ERR_reason_error_string(error);
  std::string text = reason != nullptr ? reason : "unknown error";
  ERR_clear_error();
  return text;
}

OpenSslPtr<BIO> ReadFrom(absl::string_view pem) {
  MOED_CHECK(pem.size() <= INT_MAX, "a file of certificates is small");
  return OpenSslPtr<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// All certificates of the PEM, at least one.
absl::StatusOr<std::vector<OpenSslPtr<X509>>> ParseCertificates(absl::string_view pem) {
  const OpenSslPtr<BIO> bio = ReadFrom(pem);
  std::vector<OpenSslPtr<X509>> certificates;
  ERR_clear_error();
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate);
  }
  // A read that met the end says so with this error; any other is a certificate that is broken.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string error = LastError();
  if (certificates.empty() && at_end) {
    return absl::InvalidArgumentError("holds no PEM certificate");
  }
  if (!at_end) {
    return absl::InvalidArgumentError(
        absl::StrCat("certificate ", certificates.size() + 1, " does not parse: ", error));
  }
  return certificates;
}

absl::StatusOr<CalendarTime> ToTimePoint(const ASN1_TIME* time) {
  std::tm parts = {};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    return absl::InvalidArgumentError("has a time that does not parse");
  }
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

// Never asks on a terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::StatusOr<OpenSslPtr<EVP_PKEY>> ParseKey(absl::string_view pem) {
  const OpenSslPtr<BIO> bio = ReadFrom(pem);
  ERR_clear_error();
  OpenSslPtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (key != nullptr) return key;
  const std::string error = LastError();
  if (!absl::StrContains(pem, "PRIVATE KEY-----")) {
    return absl::InvalidArgumentError("holds no PEM private key");
  }
  if (absl::StrContains(pem, "ENCRYPTED")) {
    return absl::InvalidArgumentError("has a passphrase; it must be without one");
  }
  return absl::InvalidArgumentError(absl::StrCat("does not parse: ", error));
}

// With OpenSSL's own rules, such as the least size of a key.
OpenSslPtr<SSL_CTX> NewServerContext() {
  OpenSslPtr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()));
  MOED_CHECK(context != nullptr, "OpenSSL makes a context");
  return context;
}

}  // namespace

absl::StatusOr<CalendarTime> CheckCertificate(absl::string_view certificate_pem, CalendarTime now) {
  MOED_ASSIGN_OR_RETURN(const std::vector<OpenSslPtr<X509>> chain,
                        ParseCertificates(certificate_pem));
  MOED_ASSIGN_OR_RETURN(const CalendarTime begin, ToTimePoint(X509_get0_notBefore(chain[0].get())));
  MOED_ASSIGN_OR_RETURN(const CalendarTime end, ToTimePoint(X509_get0_notAfter(chain[0].get())));
  if (now < begin) return absl::InvalidArgumentError("is not valid yet");
  if (now >= end) return absl::InvalidArgumentError("has expired");
  const OpenSslPtr<SSL_CTX> context = NewServerContext();
  if (SSL_CTX_use_certificate(context.get(), chain[0].get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("cannot be used: ", LastError()));
  }
  return end;
}

absl::Status CheckKey(absl::string_view key_pem, absl::string_view certificate_pem) {
  MOED_ASSIGN_OR_RETURN(const std::vector<OpenSslPtr<X509>> chain,
                        ParseCertificates(certificate_pem));
  MOED_ASSIGN_OR_RETURN(const OpenSslPtr<EVP_PKEY> key, ParseKey(key_pem));
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("does not belong to the certificate");
  }
  const OpenSslPtr<SSL_CTX> context = NewServerContext();
  if (SSL_CTX_use_certificate(context.get(), chain[0].get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("cannot be used: ", LastError()));
  }
  return absl::OkStatus();
}

absl::Status CheckClientCa(absl::string_view client_ca_pem) {
  return ParseCertificates(client_ca_pem).status();
}

}  // namespace moed
