// Moved.
#pragma once

#include "server/errors/error_details.h"
