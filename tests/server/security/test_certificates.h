// Certificates that tests make for themselves: no key is kept in the repository.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <chrono>
#include <memory>
#include <string>

namespace moed {

struct TestCertificate {
  std::string certificate_pem;
  std::string key_pem;
};

struct Validity {
  std::chrono::seconds from{-3600};  // from now
  std::chrono::seconds until{3600};
};

// A certificate authority of its own name and key.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name, Validity validity = {});

  // For the host "localhost".
  TestCertificate Issue(const std::string& name, Validity validity = {}) const;
  const std::string& certificate_pem() const { return certificate_pem_; }

 private:
  using Key = std::shared_ptr<EVP_PKEY>;
  using Certificate = std::shared_ptr<X509>;

  // Of `key`, signed by this authority; by itself while it has no certificate.
  Certificate Sign(const std::string& name, const Key& key, Validity validity) const;

  Key key_;
  Certificate certificate_;
  std::string certificate_pem_;
};

// The key with a passphrase on it.
std::string EncryptKey(const std::string& key_pem);

// A directory of its own, removed at the end.
class TestDirectory {
 public:
  TestDirectory();
  ~TestDirectory();

  // Replaces the file by renaming; its path.
  std::string Write(const std::string& name, const std::string& content) const;
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace moed
