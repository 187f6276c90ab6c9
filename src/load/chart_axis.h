// Round numbers for the ticks of a chart's axes. Pure.
#pragma once

#include "base/strbuf.h"

typedef struct {
    double most; // of the axis, a multiple of step
    double step; // 1, 2 or 5 times a power of ten
} ChartAxis;

// An axis from 0 that reaches `most` with about `ticks` steps.
ChartAxis chart_axis(double most, uint32_t ticks);
// The largest step for which an axis that ends at `most`, wherever that is, has at least `ticks` steps.
double chart_step(double most, uint32_t ticks);
// "0", "0.05", "1,500", with the digits that the step needs.
void chart_put_tick(StrBuf *out, double value, double step);
// A figure for people: three significant digits below 100, whole numbers above 1,000.
void chart_put_figure(StrBuf *out, double value);
