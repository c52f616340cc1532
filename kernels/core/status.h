// Propagation of absl::Status. Error policy: docs/architecture.md, "Errors".
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MOED_STATUS_CONCAT_INNER(a, b) a##b
#define MOED_STATUS_CONCAT(a, b) MOED_STATUS_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expression` is not OK.
#define MOED_RETURN_IF_ERROR(expression)         \
  do {                                           \
    absl::Status moed_status_ = (expression);    \
    if (!moed_status_.ok()) return moed_status_; \
  } while (false)

// MOED_ASSIGN_OR_RETURN(auto x, MakeX()): x is the value, or the enclosing function returns the
// error.
#define MOED_ASSIGN_OR_RETURN(declaration, expression) \
  MOED_ASSIGN_OR_RETURN_IMPL(MOED_STATUS_CONCAT(moed_or_, __LINE__), declaration, expression)

#define MOED_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                       \
  if (!result.ok()) return std::move(result).status();              \
  declaration = std::move(result).value()
