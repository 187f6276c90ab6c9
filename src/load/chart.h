// A run over time as an SVG picture: throughput, running requests, and bands of latencies. It follows the
// reader's light or dark theme and needs nothing but itself.
#pragma once

#include "load/run.h"

void chart_put_svg(StrBuf *out, const LoadConfig *config, const LoadResult *result, Arena scratch);
