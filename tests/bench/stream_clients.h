// Many streams of one client process, for measuring what serves them.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moed {

struct StreamClientsOptions {
  std::string server;  // "host:port"
  int streams = 1000;
  int connections = 8;
  int prompt_tokens = 8;
  int tokens = 500;  // of each stream
  bool text = true;  // what is asked for; at least one
  bool token_ids = false;
  double duration_seconds = 0;  // a stream that has ended begins again until then; 0: each once
  // Above 0: no stream is ever read. Each is cancelled after so long, and begins again.
  double stall_seconds = 0;
};

struct StreamClientsResult {
  double seconds = 0;  // from the first call to the last end
  int64_t tokens = 0;  // as the streams' ends say
  int64_t messages = 0;
  int64_t bytes = 0;  // of messages
  int64_t ended = 0;
  int64_t failed = 0;
  std::string first_error;
  std::vector<float> first_message_seconds;  // of each stream
  std::vector<float> between_seconds;        // from a message of a stream to its next
};

// One thread and one completion queue: what is measured shares the machine with it. Messages are
// not parsed, but for the last of each stream.
class StreamClients {
 public:
  explicit StreamClients(const StreamClientsOptions& options);
  ~StreamClients();

  StreamClientsResult Run();

 private:
  using Clock = std::chrono::steady_clock;
  struct Stream;

  void Begin(Stream* stream);
  void OnEvent(Stream* stream, bool ok);
  void OnMessage(Stream* stream);
  void OnEnd(Stream* stream);
  void CancelStalled();

  const StreamClientsOptions options_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs_;  // [connections]
  std::vector<std::unique_ptr<Stream>> streams_;
  Clock::time_point end_;  // no stream begins after it
  int num_live_ = 0;
  StreamClientsResult result_;
};

}  // namespace moed
