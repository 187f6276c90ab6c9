#include "load/chart_axis.h"

#include <math.h>

double chart_step(double most, uint32_t ticks) {
    static const double steps[] = {5, 2, 1};
    double power = pow(10, ceil(log10(most / ticks)));
    for (; power > 0; power /= 10)
        for (size_t i = 0; i < COUNT_OF(steps); i++)
            if (most / (steps[i] * power) >= ticks) return steps[i] * power;
    return most;
}

ChartAxis chart_axis(double most, uint32_t ticks) {
    if (!(most > 0)) most = 1;
    double step = chart_step(most, ticks);
    return (ChartAxis){.step = step, .most = ceil(most / step - 1e-9) * step};
}

static void put_decimal(StrBuf *out, double value, int digits) {
    if (digits > 0) {
        strbuf_printf(out, "%.*f", digits, value);
        return;
    }
    strbuf_put_count(out, (uint64_t)(value + 0.5));
}

void chart_put_tick(StrBuf *out, double value, double step) {
    int digits = 0;
    while (digits < 9 && step * pow(10, digits) < 1 - 1e-9)
        digits++;
    put_decimal(out, value, digits);
}

void chart_put_figure(StrBuf *out, double value) {
    put_decimal(out, value, value < 9.995 ? 2 : value < 999.95 ? 1 : 0);
}
