#include "client/operator_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

namespace moed {
namespace {

constexpr char kExpertsFooter[] =
    "Examples:\n"
    "  moedctl experts                        since the start: counts, and how even they are\n"
    "  moedctl experts --window 60            the last minute\n"
    "  moedctl experts --watch --window 10    the last ten seconds, live\n"
    "  moedctl experts --placement            the rank of each expert\n"
    "  moedctl experts --tokens --limit 5     the tokens that each expert received most\n"
    "\n"
    "A cell is hot (red, or a high block) where an expert has more than an even share of its\n"
    "layer's tokens, and cold (blue, low) where it has less. max/mean of 3 and dead experts are\n"
    "what the alerts watch; docs/metrics.md says what the other figures mean.\n"
    "--tokens needs a daemon with --expert-token-statistics, as it tells about content.\n"
    "Where the daemon has keys, all this needs one for monitoring or administration.";

constexpr char kRanksFooter[] =
    "Examples:\n"
    "  moedctl ranks                          now, with what they did since the start\n"
    "  moedctl ranks --watch                  live: what they did since the last second\n"
    "  moedctl ranks --watch --frames 1       how far loading is, once\n"
    "\n"
    "A rank that computes while the others wait for it is the one that slows all of them down:\n"
    "look at its experts (moedctl experts --placement) and at its machine.\n"
    "Where the daemon has keys, this needs one for monitoring or administration.";

constexpr char kDrainFooter[] =
    "Examples:\n"
    "  moedctl drain                          running requests may finish, for --drain-timeout\n"
    "  moedctl drain --within 300 --wait      within five minutes; comes back when it has gone\n"
    "  moedctl drain --wait --timeout 60      waits a minute at most, then exit code 75\n"
    "\n"
    "As SIGTERM: readiness goes down at once, new requests are refused (clients repeat them\n"
    "elsewhere), then the daemon ends with exit code 0. Where the daemon has keys, this needs one\n"
    "for administration.";

constexpr char kAbortFooter[] =
    "Example:\n"
    "  moedctl abort 5f0c3a                   the request_id that the call gave or was given\n"
    "\n"
    "The call ends ABORTED, its KV blocks are free within a step; nobody else notices. Request\n"
    "ids are in the daemon's access log and in every answer. Where the daemon has keys, this\n"
    "needs one for administration.";

constexpr char kLogLevelFooter[] =
    "Examples:\n"
    "  moedctl log-level debug                until the daemon ends or is sent SIGHUP\n"
    "\n"
    "Where the daemon has keys, this needs one for administration.";

void AddWatchOptions(CLI::App* app, OperatorOptions& o) {
  CLI::Option* watch =
      app->add_flag("--watch", o.watch, "Again and again, in place on a terminal; Ctrl-C ends");
  app->add_option("--interval", o.interval_seconds,
                  "With --watch: time between two, [0.1, 3600]; default 1")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->needs(watch);
  app->add_option("--frames", o.frames, "With --watch: end after so many")
      ->check(CLI::PositiveNumber)
      ->needs(watch);
}

}  // namespace

OperatorCommands AddOperatorCommands(CLI::App* app, OperatorOptions& o) {
  OperatorCommands commands = {};
  CLI::App* experts = commands.experts = app->add_subcommand(
      "experts", "How the load is spread over the experts, and where each of them lives");
  CLI::Option* window =
      experts->add_option("--window", o.window_seconds, "Only the last so many, up to 3600")
          ->type_name("SECONDS")
          ->check(CLI::PositiveNumber);
  CLI::Option* tokens = experts->add_flag(
      "--tokens", o.tokens, "Which tokens each expert received most, and how faithfully");
  experts->add_option("--limit", o.token_limit, "With --tokens: so many of each, [1, 100]")
      ->needs(tokens);
  CLI::Option* placement =
      experts->add_flag("--placement", o.placement, "Which rank holds each expert");
  AddWatchOptions(experts, o);
  CLI::Option* watch = experts->get_option("--watch");
  tokens->excludes(window)->excludes(placement)->excludes(watch);
  placement->excludes(window)->excludes(watch);
  experts->footer(kExpertsFooter);

  commands.ranks = app->add_subcommand("ranks", "What each rank holds, and what its time goes to");
  AddWatchOptions(commands.ranks, o);
  commands.ranks->footer(kRanksFooter);

  commands.drain = app->add_subcommand("drain", "Let running requests finish, then end the daemon");
  commands.drain
      ->add_option("--within", o.within_seconds,
                   "How long running requests may go on, [0, 86400]; default: the daemon's "
                   "--drain-timeout")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber);
  commands.drain->add_flag("--wait", o.wait, "Come back when the daemon has gone");
  commands.drain->footer(kDrainFooter);

  commands.abort = app->add_subcommand("abort", "End one request");
  commands.abort->add_option("request-id", o.request_id, "Its id")->required();
  commands.abort->footer(kAbortFooter);

  commands.log_level = app->add_subcommand("log-level", "Change what the daemon logs");
  commands.log_level->add_option("level", o.log_level, "debug, info, warning or error")->required();
  commands.log_level->footer(kLogLevelFooter);
  return commands;
}

}  // namespace moed
