#include "tests/server/security/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "kernels/core/check.h"

namespace moed {
namespace {

std::shared_ptr<EVP_PKEY> NewKey() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  MOED_CHECK(key != nullptr, "a key is made");
  return {key, EVP_PKEY_free};
}

template <typename Write>
std::string ToPem(Write write) {
  const std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free);
  MOED_CHECK(write(bio.get()) == 1, "PEM is written");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);  // NOLINT(google-runtime-int): OpenSSL's
  return std::string(data, static_cast<size_t>(size));
}

void AddExtension(X509* certificate, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value);
  MOED_CHECK(extension != nullptr, "an extension is made");
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name, Validity validity) : key_(NewKey()) {
  certificate_ = Sign(name, key_, validity);
  certificate_pem_ =
      ToPem([this](BIO* bio) { return PEM_write_bio_X509(bio, certificate_.get()); });
}

TestAuthority::Certificate TestAuthority::Sign(const std::string& name, const Key& key,
                                               Validity validity) const {
  static std::atomic<int64_t> serial{1};
  Certificate signed_certificate(X509_new(), X509_free);
  X509* certificate = signed_certificate.get();
  const bool is_authority = certificate_ == nullptr;
  X509* issuer = is_authority ? certificate : certificate_.get();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), validity.from.count());
  X509_gmtime_adj(X509_getm_notAfter(certificate), validity.until.count());
  X509_set_pubkey(certificate, key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  AddExtension(certificate, issuer, NID_basic_constraints,
               is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (!is_authority) AddExtension(certificate, issuer, NID_subject_alt_name, "DNS:localhost");
  MOED_CHECK(X509_sign(certificate, key_.get(), EVP_sha256()) > 0, "a certificate is signed");
  return signed_certificate;
}

TestCertificate TestAuthority::Issue(const std::string& name, Validity validity) const {
  const Key key = NewKey();
  const Certificate certificate = Sign(name, key, validity);
  return {ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); }),
          ToPem([&](BIO* bio) {
            return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

std::string EncryptKey(const std::string& key_pem) {
  const std::unique_ptr<BIO, int (*)(BIO*)> source(
      BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())), BIO_free);
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(
      PEM_read_bio_PrivateKey(source.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  static const unsigned char kPassphrase[] = "passphrase";
  return ToPem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key.get(), EVP_aes_256_cbc(), kPassphrase,
                                    sizeof(kPassphrase) - 1, nullptr, nullptr);
  });
}

TestDirectory::TestDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "moed_security_XXXXXX").string();
  MOED_CHECK(mkdtemp(path_.data()) != nullptr, "a directory is made");
}

TestDirectory::~TestDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TestDirectory::Write(const std::string& name, const std::string& content) const {
  const std::string path = Path(name);
  {
    std::ofstream file(path + ".new", std::ios::binary);
    file << content;
    MOED_CHECK(file.good(), "a file is written");
  }
  std::filesystem::permissions(
      path + ".new", std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::rename(path + ".new", path);
  return path;
}

}  // namespace moed
