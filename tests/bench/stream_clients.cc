#include "tests/bench/stream_clients.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "moed/v1/generation.pb.h"

namespace moed {
namespace {

constexpr char kMethod[] = "/moed.v1.GenerationService/StreamGenerate";
constexpr std::chrono::milliseconds kTick{100};

float SecondsBetween(std::chrono::steady_clock::time_point from,
                     std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<float>(to - from).count();
}

std::chrono::steady_clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

// Whether a StreamGenerateResponse may have field 8, `finish`. Its fields before stand in order:
// 1 and 5 have lengths, 2 and 3 are numbers, 4 and 6 have lengths.
bool MayBeLast(const grpc::Slice& slice) {
  const uint8_t* at = slice.begin();
  const uint8_t* const end = slice.end();
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0; at < end; shift += 7) {
      value |= uint64_t{*at & 0x7FU} << shift;
      if ((*at++ & 0x80) == 0) break;
    }
    return value;
  };
  while (at < end) {
    const uint64_t tag = varint();
    if (tag / 8 >= 7) return true;
    const uint64_t value = varint();
    if (tag % 8 == 2) at += std::min<uint64_t>(value, end - at);
  }
  return false;
}

}  // namespace

struct StreamClients::Stream {
  enum class Waits : uint8_t { kStart, kWrite, kRead, kFinish };

  int index = 0;
  uint64_t round = 0;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
  Waits waits = Waits::kStart;
  bool stalls = false;  // has been cancelled or not, nothing reads it
  grpc::ByteBuffer message;
  grpc::Status status;
  Clock::time_point begun;
  Clock::time_point last_message;
  bool has_message = false;
};

StreamClients::StreamClients(const StreamClientsOptions& options) : options_(options) {
  for (int i = 0; i < options_.connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("moed.connection", i);  // or equal channels would share one connection
    stubs_.push_back(std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(options_.server, grpc::InsecureChannelCredentials(), arguments)));
  }
  for (int i = 0; i < options_.streams; ++i) {
    streams_.push_back(std::make_unique<Stream>());
    streams_.back()->index = i;
  }
}

StreamClients::~StreamClients() {
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

StreamClientsResult StreamClients::Run() {
  const Clock::time_point start = Clock::now();
  end_ = start + Seconds(options_.duration_seconds);
  for (const auto& stream : streams_) Begin(stream.get());
  while (num_live_ > 0) {
    void* tag = nullptr;
    bool ok = false;
    const auto next = queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + kTick);
    MOED_CHECK(next != grpc::CompletionQueue::SHUTDOWN, "the queue ends too early");
    if (next == grpc::CompletionQueue::GOT_EVENT) OnEvent(static_cast<Stream*>(tag), ok);
    if (options_.stall_seconds > 0) CancelStalled();
  }
  result_.seconds = SecondsBetween(start, Clock::now());
  return std::move(result_);
}

void StreamClients::Begin(Stream* stream) {
  ++num_live_;
  ++stream->round;
  stream->status = grpc::Status();
  stream->call.reset();
  stream->context = std::make_unique<grpc::ClientContext>();
  stream->has_message = false;
  stream->begun = Clock::now();
  stream->call = stubs_[stream->index % options_.connections]->PrepareCall(stream->context.get(),
                                                                           kMethod, &queue_);
  stream->waits = Stream::Waits::kStart;
  stream->call->StartCall(stream);
}

void StreamClients::OnEvent(Stream* stream, bool ok) {
  const auto finish = [&] {
    stream->waits = Stream::Waits::kFinish;
    stream->call->Finish(&stream->status, stream);
  };
  switch (stream->waits) {
    case Stream::Waits::kStart: {
      if (!ok) return finish();
      v1::StreamGenerateRequest request;
      for (int i = 0; i < options_.prompt_tokens; ++i) {
        request.mutable_token_ids()->add_ids(300 + (stream->index + i) % 1000);
      }
      request.mutable_sampling()->set_seed(stream->round * options_.streams + stream->index);
      request.mutable_stopping()->set_max_tokens(options_.tokens);
      request.mutable_stopping()->set_ignore_eos(true);
      request.mutable_response()->set_text(options_.text);
      request.mutable_response()->set_token_ids(options_.token_ids);
      const grpc::Slice slice(request.SerializeAsString());
      stream->waits = Stream::Waits::kWrite;
      stream->call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), stream);
      return;
    }
    case Stream::Waits::kWrite:
      if (!ok || options_.stall_seconds > 0) return finish();
      break;
    case Stream::Waits::kRead:
      if (!ok) return finish();
      OnMessage(stream);
      break;
    case Stream::Waits::kFinish:
      return OnEnd(stream);
  }
  stream->waits = Stream::Waits::kRead;
  stream->call->Read(&stream->message, stream);
}

void StreamClients::OnMessage(Stream* stream) {
  const Clock::time_point now = Clock::now();
  if (stream->has_message) {
    result_.between_seconds.push_back(SecondsBetween(stream->last_message, now));
  } else {
    result_.first_message_seconds.push_back(SecondsBetween(stream->begun, now));
    stream->has_message = true;
  }
  stream->last_message = now;
  ++result_.messages;
  result_.bytes += static_cast<int64_t>(stream->message.Length());
  grpc::Slice slice;
  if (stream->message.TrySingleSlice(&slice).ok() && !MayBeLast(slice)) return;
  v1::StreamGenerateResponse response;
  grpc::ProtoBufferReader reader(&stream->message);
  MOED_CHECK(response.ParseFromZeroCopyStream(&reader), "the answer is no answer");
  result_.tokens += response.finish().usage().completion_tokens();
}

void StreamClients::OnEnd(Stream* stream) {
  --num_live_;
  ++result_.ended;
  if (!stream->status.ok() && options_.stall_seconds == 0) {
    ++result_.failed;
    if (result_.first_error.empty()) {
      result_.first_error =
          absl::StrCat(stream->status.error_code(), " ", stream->status.error_message());
    }
    return;  // not again: it would fail as fast as it can
  }
  if (Clock::now() < end_) Begin(stream);
}

void StreamClients::CancelStalled() {
  const Clock::time_point now = Clock::now();
  for (const auto& stream : streams_) {
    if (stream->waits != Stream::Waits::kFinish) continue;
    if (now >= end_ || now - stream->begun >= Seconds(options_.stall_seconds)) {
      stream->context->TryCancel();
    }
  }
}

}  // namespace moed
