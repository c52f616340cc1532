// docs/metrics.md.
#pragma once

#include <string>

namespace moed {

// The whole page, in Markdown, made from the catalog.
std::string MetricsCatalogPage();

}  // namespace moed
