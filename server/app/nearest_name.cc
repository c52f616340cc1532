#include "server/app/nearest_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace moed {
namespace {

// What is longer is no slip of the finger.
constexpr size_t kMaxNameBytes = 64;

// Optimal string alignment: insertion, removal, exchange, and two neighbours swapped cost 1.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string NearestName(absl::string_view written, const std::vector<std::string>& names) {
  if (written.empty() || written.size() > kMaxNameBytes) return "";
  const std::string plain = absl::AsciiStrToLower(absl::StrReplaceAll(written, {{"_", "-"}}));
  std::string nearest;
  size_t least = std::max<size_t>(1, plain.size() / 3) + 1;
  for (const std::string& name : names) {
    const size_t distance = Distance(plain, name);
    if (distance >= least) continue;
    least = distance;
    nearest = name;
  }
  return nearest;
}

}  // namespace moed
