// Frames that follow each other: in place on a terminal, one below the other elsewhere.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace moed {

struct TerminalSize {
  int rows = 0;     // 0: no terminal
  int columns = 0;  // 0: no limit
};
TerminalSize StdoutSize();

// What a terminal has to be sent so that it shows `frame` and nothing else; the first one clears
// it. Only the changes are seen, as nothing is cleared between two frames. What the rows do not
// hold is cut off and said so.
std::string TerminalFrame(absl::string_view frame, bool first, int rows);

// Writes frames to standard output.
class LiveView {
 public:
  void Show(absl::string_view frame);

 private:
  bool first_ = true;
};

// A line on standard error that says how something goes on: in place on a terminal, else a line
// whenever it changes.
class ProgressLine {
 public:
  ~ProgressLine();
  void Show(const std::string& text);

 private:
  std::string shown_;
};

}  // namespace moed
