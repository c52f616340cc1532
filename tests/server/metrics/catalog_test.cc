#include "server/metrics/catalog.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/metrics/catalog_page.h"

namespace moed {
namespace {

TEST(MetricCatalogTest, ThePageInTheDocumentationIsTheCatalogs) {
  std::ifstream file(MOED_SOURCE_DIR "/docs/metrics.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(page, MetricsCatalogPage()) << "make it again: moed_metrics_doc > docs/metrics.md";
}

TEST(MetricCatalogTest, NamesFollowTheRules) {
  std::set<std::string> names;
  for (const MetricDefinition& definition : MetricCatalog()) {
    const absl::string_view name = definition.name;
    SCOPED_TRACE(definition.name);
    EXPECT_TRUE(names.insert(definition.name).second);
    EXPECT_TRUE(absl::StartsWith(name, "moed_") || absl::StartsWith(name, "process_"));
    for (const char c : name)
      EXPECT_TRUE(absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_');
    EXPECT_EQ(definition.type == MetricType::kCounter, absl::EndsWith(name, "_total"));
    const absl::string_view unit = definition.unit;
    if (unit == "seconds" || unit == "bytes" || unit == "ratio") {
      EXPECT_TRUE(absl::EndsWith(name, unit) ||
                  absl::EndsWith(absl::StripSuffix(name, "_total"), unit));
    }
  }
}

// prometheus-cpp writes them as they are.
TEST(MetricCatalogTest, TextsAreOneLineOfAscii) {
  for (const MetricDefinition& definition : MetricCatalog()) {
    for (const char c : absl::string_view(definition.help)) {
      EXPECT_TRUE(absl::ascii_isprint(c) && c != '\\' && c != '|') << definition.name;
    }
    EXPECT_TRUE(absl::EndsWith(definition.help, ".")) << definition.name;
  }
}

}  // namespace
}  // namespace moed
