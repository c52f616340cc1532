// Prints docs/metrics.md: moed_metrics_doc > docs/metrics.md
#include <cstdio>

#include "server/metrics/catalog_page.h"

int main() { return std::fputs(moed::MetricsCatalogPage().c_str(), stdout) < 0 ? 1 : 0; }
