#include "kernels/backend.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/app/option_groups.h"

namespace moed {
namespace {

// A text is part of a message, and no text may be longer than the tokenizer takes.
constexpr int64_t kMaxMessageBytes = Tokenizer::kMaxTextBytes;
constexpr double kDaySeconds = 86400;

void AddRequestOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("What a request may ask for");
  const auto limit = [&](const char* name, int32_t& value, const char* help) {
    table.Integer(name, &value, 1, kNoUpperBound, help);
  };
  limit("queue-limit", o.limits.queued_requests, "Requests that wait; more are refused");
  limit("max-requests-per-client", o.limits.requests_per_client,
        "Generations of one client at a time, waiting ones too: of a key, or of an address where "
        "there are no keys. Default: no limit");
  limit("default-max-tokens", o.limits.default_max_tokens,
        "Length of a continuation that does not say max_tokens");
  limit("max-n", o.limits.n, "Continuations of a prompt; no more than --max-sequences");
  limit("max-logit-bias", o.limits.logit_bias, "Entries of logit_bias");
  limit("max-bad-words", o.limits.bad_words, "Texts of bad_words");
  limit("max-bad-word-bytes", o.limits.bad_word_bytes, "Bytes of a text of bad_words");
  limit("max-stop-strings", o.limits.stop_strings, "Stop strings");
  limit("max-stop-string-bytes", o.limits.stop_string_bytes, "Bytes of a stop string");
  limit("max-stop-token-ids", o.limits.stop_token_ids, "Stop token ids");
  limit("max-chat-messages", o.limits.chat_messages, "Messages of a conversation");
  table.Integer("max-logprobs", &o.limits.logprobs, 0, kMaxLogprobs,
                "Alternatives with a log probability");
  table.Size("max-message-size", &o.limits.message_bytes, 1, kMaxMessageBytes,
             "Bytes of a request");
}

void AddNetworkOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Network");
  table.Addresses("listen", &o.listen, "",
                  "gRPC address, may be given again; port 0 takes any free one");
  table.Addresses("admin-listen", &o.admin_listen, "none",
                  "HTTP address of probes, metrics and the page, may be given again; none: no such "
                  "port");
  table.Text("port-file", &o.port_file, "FILE",
             "Where the chosen ports are written, one a line: gRPC's, then HTTP's");
  table.Boolean("grpc-reflection", &o.grpc_reflection,
                "Offer reflection even where others than this machine can connect");
  table.Integer("max-connections", &o.max_connections, 1, 1 << 20,
                "gRPC connections at a time; more wait to be accepted");
  table.Seconds("keepalive", &o.keepalive_seconds, 0, kDaySeconds,
                "Between pings on a quiet gRPC connection; 0: no pings");
  table.Seconds("max-connection-age", &o.max_connection_age_seconds, 0, 365 * kDaySeconds,
                "After which a gRPC connection takes no new calls and ends with its last one, so "
                "that clients spread anew; 0: never");
  table.Size("max-metadata-size", &o.max_metadata_bytes, 1 << 10, 1 << 20,
             "Bytes of a call's metadata, HTTP's headers");
  table.Size("stream-buffer-size", &o.stream_buffer_bytes, 1, kNoUpperBound,
             "Output that a slow reader may leave waiting before it is cut off");
  table.Seconds("slow-reader-timeout", &o.slow_reader_timeout_seconds, 0, kDaySeconds,
                "How long a reader may take nothing of what waits before it is cut off; 0: for "
                "ever");
  table.Seconds("drain-timeout", &o.drain_timeout_seconds, 0, kDaySeconds,
                "How long running requests may go on after SIGTERM");
}

void AddSecurityOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Security");
  table.Text("key-file", &o.key_file, "FILE",
             "Keys that clients must show, hashed: a line ROLE NAME sha256:HEX each, with ROLE "
             "user, monitor or admin. Without it everybody may generate, and callers on this "
             "machine may do the rest");
  table.Text("tls-certificate", &o.tls_certificate, "FILE",
             "TLS for gRPC: PEM, the server's certificate, then its chain");
  table.Text("tls-key", &o.tls_key, "FILE", "PEM, the certificate's key");
  table.Text("tls-client-ca", &o.tls_client_ca, "FILE",
             "PEM: gRPC clients must show a certificate that one of these has signed");
  table.Boolean("admin-tls", &o.admin_tls,
                "The admin port speaks TLS too, with the same certificate; asks clients for none");
}

void AddLogOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Logs, on stderr");
  table.Choice("log-format", &o.log_format, "FORMAT", {"auto", "text", "json"},
               "text, json, or auto: text on a terminal and json otherwise");
  table.Choice("log-level", &o.log_level, "LEVEL", {"debug", "info", "warning", "error"},
               "debug, info, warning or error");
  table.NegatedBoolean("no-access-log", &o.access_log,
                       "Leave out the line for each request that has ended");
}

}  // namespace

void AddServiceOptions(OptionTable& table, DaemonOptions& o) {
  AddRequestOptions(table, o);
  AddNetworkOptions(table, o);
  AddSecurityOptions(table, o);
  AddLogOptions(table, o);
}

}  // namespace moed
