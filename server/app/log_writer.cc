#include "server/app/log_writer.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <utility>

namespace moed {
namespace {

using std::chrono::steady_clock;

// How often a thread that waits for the descriptor looks whether it should stop.
constexpr int kPollMilliseconds = 50;

}  // namespace

LogWriter::LogWriter(int fd, size_t max_queued_bytes, DropNotice drop_notice)
    : shared_(std::make_shared<Shared>(fd, max_queued_bytes, drop_notice)) {
  // The thread inherits the mask: signals are for others, and a reader that has gone is an error of
  // write, not the end of the process.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([shared = shared_] { Run(shared.get()); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LogWriter::~LogWriter() {
  Flush(kPatience);
  bool stopped = false;
  {
    MutexLock lock(shared_->mutex);
    shared_->stopping = true;
    shared_->changed.NotifyAll();
    const auto deadline = steady_clock::now() + 4 * std::chrono::milliseconds(kPollMilliseconds);
    while (!shared_->stopped && shared_->changed.WaitUntil(shared_->mutex, deadline)) {
    }
    stopped = shared_->stopped;
  }
  if (stopped) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void LogWriter::Write(std::string line) {
  MutexLock lock(shared_->mutex);
  if (shared_->queued_bytes + line.size() > shared_->max_queued_bytes) {
    ++shared_->dropped;
    return;
  }
  shared_->queued_bytes += line.size();
  shared_->lines.push_back(std::move(line));
  shared_->changed.NotifyAll();
}

bool LogWriter::Flush(std::chrono::milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  MutexLock lock(shared_->mutex);
  while (shared_->writing || !shared_->lines.empty()) {
    if (!shared_->changed.WaitUntil(shared_->mutex, deadline) && steady_clock::now() >= deadline) {
      return !shared_->writing && shared_->lines.empty();
    }
  }
  return true;
}

int64_t LogWriter::dropped_lines() const {
  MutexLock lock(shared_->mutex);
  return shared_->dropped;
}

void LogWriter::Run(Shared* shared) {
  while (true) {
    std::string line;
    int64_t dropped = 0;  // that the log has not told of
    {
      MutexLock lock(shared->mutex);
      while (shared->lines.empty() && !shared->stopping) shared->changed.Wait(shared->mutex);
      if (shared->stopping) break;
      line = std::move(shared->lines.front());
      shared->lines.pop_front();
      shared->queued_bytes -= line.size();
      shared->writing = true;
      dropped = shared->dropped - shared->told_dropped;
    }
    const bool told = dropped > 0 && WriteAll(shared, shared->drop_notice(dropped));
    const bool written = WriteAll(shared, line);
    MutexLock lock(shared->mutex);
    if (told) shared->told_dropped += dropped;
    if (!written) ++shared->dropped;
    shared->writing = false;
    shared->changed.NotifyAll();
  }
  MutexLock lock(shared->mutex);
  shared->stopped = true;
  shared->changed.NotifyAll();
}

bool LogWriter::WriteAll(Shared* shared, const std::string& line) {
  size_t done = 0;
  while (done < line.size()) {
    // A pipe that poll calls writable takes PIPE_BUF bytes without blocking.
    const size_t part = std::min<size_t>(line.size() - done, PIPE_BUF);
    pollfd writable = {shared->fd, POLLOUT, 0};
    const int ready = poll(&writable, 1, kPollMilliseconds);
    if (ready == 0 || (ready < 0 && errno == EINTR)) {
      MutexLock lock(shared->mutex);
      if (shared->stopping) return false;
      continue;
    }
    if (ready < 0 || (writable.revents & POLLNVAL) != 0) return false;
    const ssize_t written = write(shared->fd, line.data() + done, part);
    if (written < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return false;
    }
    done += static_cast<size_t>(written);
  }
  return true;
}

}  // namespace moed
