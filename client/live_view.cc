#include "client/live_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/output.h"

namespace moed {

TerminalSize StdoutSize() {
  if (isatty(STDOUT_FILENO) != 1) return {};
  winsize size = {};
  // A terminal that does not tell is an old one.
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    return {.rows = 24, .columns = 80};
  }
  return {.rows = size.ws_row, .columns = size.ws_col};
}

std::string TerminalFrame(absl::string_view frame, bool first, int rows) {
  std::vector<absl::string_view> lines = absl::StrSplit(frame, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  const auto room = static_cast<size_t>(std::max(rows - 1, 1));
  if (lines.size() > room) {
    lines.resize(room);
    lines.back() = "... (the window is too low for more)";
  }
  // To the upper left; long lines do not wrap; each line is written over the old one and its rest
  // cleared, then all below.
  std::string text = first ? "\033[2J\033[H\033[?7l" : "\033[H\033[?7l";
  for (const absl::string_view line : lines) absl::StrAppend(&text, line, "\033[K\n");
  return text + "\033[J\033[?7h";
}

void LiveView::Show(absl::string_view frame) {
  const TerminalSize size = StdoutSize();
  if (size.rows > 0) {
    PrintText(TerminalFrame(frame, first_, size.rows));
  } else {
    PrintText(absl::StrCat(first_ ? "" : "\n", frame));
  }
  first_ = false;
}

ProgressLine::~ProgressLine() {
  if (!shown_.empty() && isatty(STDERR_FILENO) == 1) std::fputs("\n", stderr);
}

void ProgressLine::Show(const std::string& text) {
  if (text == shown_) return;
  shown_ = text;
  if (isatty(STDERR_FILENO) == 1) {
    std::fprintf(stderr, "\r%s\033[K", text.c_str());
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::fflush(stderr);
}

}  // namespace moed
