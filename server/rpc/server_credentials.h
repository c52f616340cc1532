// TLS for gRPC's listeners, with certificates that change while the server runs.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/security/certificate_store.h"

namespace moed {

// Every handshake begins with what the store holds then, certificate, key and client CA together;
// connections that are open keep theirs. With a client CA clients must show a certificate that it
// has signed. TLS 1.2 or later.
//
// The keys stay in memory: nothing is written anywhere. All connections of a listener must be
// accepted on one thread at a time, as AcceptLoop does: gRPC 1.51 exchanges a listener's keys
// without a lock. May be given to several listeners and dropped once the server is built; the
// store is kept for as long as a listener uses it.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<const CertificateStore> store);

}  // namespace moed
