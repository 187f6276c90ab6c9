#include "load/chart.h"

#include "base/utf8.h"
#include "load/chart_axis.h"

enum {
    WIDTH = 1000,
    LEFT = 76,
    RIGHT = 968,
    HEADER = 176, // what is above the first panel
    PANEL_TITLE = 34,
    PANEL_SPACE = 22,
    FOOTER = 58,
    SETTINGS_COLUMNS = 125,
    SETTINGS_LINE = 19,
    POINTS_MAX = 100,
    // A point has so many samples on average, as long as there are at least so many points.
    LATENCY_SAMPLES = 8,
    LATENCY_POINTS = 12,
    RATE_SAMPLES = 24,
    RATE_POINTS = 30,
};

// ---- the data ----

// A stretch of the run: some of the timeline's bins together.
typedef struct {
    double from_s, to_s;
    uint64_t n_pieces, n_ended, n_errors;
    double running;
    uint64_t p50_ns, p99_ns;
    bool has_latency;
} Point;

typedef enum { LATENCY_NONE, LATENCY_FIRST_TOKEN, LATENCY_BETWEEN } Latency;

typedef struct {
    Point points[TIMELINE_BINS];
    uint32_t n;
} Series;

static const Histogram *histogram_of(const TimelineBin *bin, Latency latency) {
    return latency == LATENCY_FIRST_TOKEN ? &bin->first_token : &bin->between;
}

// How many bins make a point.
static uint32_t bins_a_point(const LoadStats *s, Latency latency) {
    uint32_t bins = (uint32_t)max_u64(div_up(s->n_bins, POINTS_MAX), 1);
    uint64_t samples = s->pieces, wanted = RATE_SAMPLES, points = RATE_POINTS;
    if (latency != LATENCY_NONE) {
        samples = latency == LATENCY_FIRST_TOKEN ? s->first_token.count : s->between.count;
        wanted = LATENCY_SAMPLES;
        points = LATENCY_POINTS;
    }
    while (bins * points < s->n_bins && samples * bins < wanted * s->n_bins)
        bins++;
    return bins;
}

// A rest that is shorter than half a stretch belongs to the one before.
static void fill_series(const LoadStats *s, Latency latency, Histogram *scratch, Series *out) {
    uint32_t bins = bins_a_point(s, latency);
    double bin_s = (double)s->bin_ns * 1e-9, end_s = stats_seconds(s);
    out->n = 0;
    for (uint32_t first = 0, end; first < s->n_bins; first = end) {
        end = first + bins;
        if (end_s - end * bin_s < bins * bin_s / 2 || end > s->n_bins) end = s->n_bins;
        Point p = {.from_s = first * bin_s, .to_s = end < s->n_bins ? end * bin_s : end_s};
        if (p.to_s <= p.from_s) break; // a run that was stopped at once
        memset(scratch, 0, sizeof *scratch);
        for (uint32_t i = first; i < end; i++) {
            const TimelineBin *bin = &s->bins[i];
            p.n_pieces += bin->n_pieces;
            p.n_ended += bin->n_ended;
            p.n_errors += bin->n_errors;
            p.running += bin->running_ns * 1e-9 / (p.to_s - p.from_s);
            if (latency != LATENCY_NONE) histogram_merge(scratch, histogram_of(bin, latency));
        }
        p.has_latency = scratch->count > 0;
        p.p50_ns = histogram_percentile(scratch, 0.5);
        p.p99_ns = histogram_percentile(scratch, 0.99);
        out->points[out->n++] = p;
    }
}

// ---- what is drawn ----

typedef struct {
    StrBuf *out;
    double end_s;
    double top, height; // of the panel at hand
    ChartAxis axis;
} Chart;

static void put_escaped(StrBuf *out, Str text) {
    for (uint32_t character; text.len;) {
        size_t size = utf8_decode(text, &character);
        char c = text.ptr[0];
        if (size == 0) strbuf_put(out, STR("\xef\xbf\xbd"));
        else if (c == '<') strbuf_put(out, STR("&lt;"));
        else if (c == '&') strbuf_put(out, STR("&amp;"));
        else if (c == '"') strbuf_put(out, STR("&quot;"));
        else if (!utf8_is_control(character)) strbuf_put(out, str_slice(text, 0, size));
        text = str_slice(text, size ? size : 1, text.len);
    }
}

static double x_of(const Chart *c, double at_s) {
    return LEFT + (RIGHT - LEFT) * at_s / c->end_s;
}

static double y_of(const Chart *c, double value) {
    return c->top + c->height * (1 - value / c->axis.most);
}

static const char style[] =
    "<style>\n"
    "svg{max-width:100%;height:auto}\n"
    "svg{--paper:#fff;--ink:#18202c;--quiet:#667085;--grid:#e7eaef;--line:#cfd5dd;--tile:#f5f7fa;"
    "--rate:#2563eb;--running:#0e9384;--first:#7c3aed;--between:#d9630a;--error:#d92d20}\n"
    "@media (prefers-color-scheme:dark){svg{--paper:#10151d;--ink:#e8ecf2;--quiet:#98a2b3;--grid:#222a36;"
    "--line:#3a4453;--tile:#182029;--rate:#6ea8fe;--running:#3dd6c3;--first:#b79bff;--between:#ffa45c;"
    "--error:#ff7a70}}\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;font-size:12px;"
    "fill:var(--quiet);font-variant-numeric:tabular-nums}\n"
    ".title{font-size:20px;font-weight:650;fill:var(--ink)}.settings{font-size:13px;font-weight:400;fill:var("
    "--quiet)}\n"
    ".figure{font-size:21px;font-weight:650;fill:var(--ink)}.name{font-size:12px;font-weight:400;fill:var(--"
    "quiet)}\n"
    ".panel{font-size:13.5px;font-weight:600;fill:var(--ink)}.end{text-anchor:end}.middle{text-anchor:middle}"
    "\n"
    ".grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--line);stroke-width:1}\n"
    ".area{stroke:none;opacity:.16}.curve{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".thin{stroke-width:1;opacity:.75}.mean{stroke-width:1;stroke-dasharray:5 4;opacity:.8}\n"
    ".error{stroke:var(--error);stroke-width:3}\n"
    "</style>\n";

// ---- curves ----

typedef double PointValue(const Point *p, double scale);

static double point_rate(const Point *p, double tokens_per_piece) {
    return (double)p->n_pieces * tokens_per_piece / (p->to_s - p->from_s);
}

static double point_running(const Point *p, double scale) {
    return p->running * scale;
}

static double point_p50(const Point *p, double scale) {
    return (double)p->p50_ns * scale;
}

static double point_p99(const Point *p, double scale) {
    return (double)p->p99_ns * scale;
}

static double point_zero(const Point *p, double scale) {
    (void)p, (void)scale;
    return 0;
}

static double largest(const Series *s, PointValue *value, double scale) {
    double most = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (value(&s->points[i], scale) > most) most = value(&s->points[i], scale);
    return most;
}

// The points of a curve, each in the middle of its stretch; the first and the last reach the stretch's end.
static void put_points(const Chart *c, const Point *points, uint32_t n, PointValue *value, double scale,
                       bool back) {
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = back ? n - 1 - k : k;
        const Point *p = &points[i];
        double y = y_of(c, value(p, scale));
        if (i == 0 && !back) strbuf_printf(c->out, "%.1f,%.1f ", x_of(c, p->from_s), y);
        if (i + 1 == n && back) strbuf_printf(c->out, "%.1f,%.1f ", x_of(c, p->to_s), y);
        strbuf_printf(c->out, "%.1f,%.1f ", x_of(c, (p->from_s + p->to_s) / 2), y);
        if (i == 0 && back) strbuf_printf(c->out, "%.1f,%.1f ", x_of(c, p->from_s), y);
        if (i + 1 == n && !back) strbuf_printf(c->out, "%.1f,%.1f ", x_of(c, p->to_s), y);
    }
}

// How many points from `first` on follow each other without a gap: a curve ends where nothing was measured.
static uint32_t points_together(const Series *s, uint32_t first) {
    uint32_t n = 1;
    while (first + n < s->n && s->points[first + n].from_s <= s->points[first + n - 1].to_s + 1e-9)
        n++;
    return n;
}

static void put_curve(const Chart *c, const Series *s, PointValue *value, double scale, const char *color,
                      bool is_thin) {
    for (uint32_t first = 0, n; first < s->n; first += n) {
        n = points_together(s, first);
        strbuf_printf(c->out, "<polyline class=\"curve%s\" stroke=\"var(--%s)\" points=\"",
                      is_thin ? " thin" : "", color);
        put_points(c, s->points + first, n, value, scale, false);
        strbuf_put(c->out, STR("\"/>\n"));
    }
}

// Dots where the points are few enough to be seen one by one.
static void put_dots(const Chart *c, const Series *s, PointValue *value, double scale, const char *color) {
    enum { DOTS_MAX = 40 };
    for (uint32_t i = 0; s->n <= DOTS_MAX && i < s->n; i++) {
        const Point *p = &s->points[i];
        strbuf_printf(c->out, "<circle r=\"3\" fill=\"var(--%s)\" cx=\"%.1f\" cy=\"%.1f\"/>", color,
                      x_of(c, (p->from_s + p->to_s) / 2), y_of(c, value(p, scale)));
    }
}

static void put_area(const Chart *c, const Series *s, PointValue *low, PointValue *high, double scale,
                     const char *color) {
    for (uint32_t first = 0, n; first < s->n; first += n) {
        n = points_together(s, first);
        strbuf_printf(c->out, "<polygon class=\"area\" fill=\"var(--%s)\" points=\"", color);
        put_points(c, s->points + first, n, high, scale, false);
        put_points(c, s->points + first, n, low, scale, true);
        strbuf_put(c->out, STR("\"/>\n"));
    }
}

// ---- panels ----

static void begin_panel(Chart *c, double top, double height, double most, const char *title) {
    c->top = top + PANEL_TITLE;
    c->height = height;
    c->axis = chart_axis(most * 1.02, height > 100 ? 3 : 2);
    strbuf_printf(c->out, "<text class=\"panel\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, c->top - 13, title);
    double step_s = chart_step(c->end_s, 8);
    for (uint32_t i = 1; i * step_s <= c->end_s; i++)
        strbuf_printf(c->out, "<path class=\"grid\" d=\"M%.1f %.1fv%.1f\"/>", x_of(c, i * step_s), c->top,
                      c->height);
    for (uint32_t i = 0; i * c->axis.step <= c->axis.most + c->axis.step / 2; i++) {
        double value = i * c->axis.step;
        strbuf_printf(c->out,
                      "<path class=\"%s\" d=\"M%d %.1fH%d\"/><text class=\"end\" x=\"%d\" y=\"%.1f\">",
                      i ? "grid" : "axis", LEFT, y_of(c, value), RIGHT, LEFT - 8, y_of(c, value) + 4);
        chart_put_tick(c->out, value, c->axis.step);
        strbuf_put(c->out, STR("</text>\n"));
    }
}

static void put_mean(const Chart *c, double value, const char *color) {
    strbuf_printf(c->out,
                  "<path class=\"mean\" stroke=\"var(--%s)\" d=\"M%d %.1fH%d\"/>"
                  "<text class=\"end\" x=\"%d\" y=\"%.1f\">mean ",
                  color, LEFT, y_of(c, value), RIGHT, RIGHT, c->top - 13);
    chart_put_figure(c->out, value);
    strbuf_put(c->out, STR("</text>\n"));
}

// Bars in the panel where requests failed: as high as their share of those that ended then.
static void put_errors(const Chart *c, const Series *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        enum { LEAST = 9 };
        const Point *p = &s->points[i];
        double share = (double)p->n_errors / (double)max_u64(p->n_errors + p->n_ended, 1);
        if (p->n_errors)
            strbuf_printf(c->out, "<path class=\"error\" d=\"M%.1f %.1fv-%.1f\"/>",
                          x_of(c, (p->from_s + p->to_s) / 2), c->top + c->height,
                          LEAST + (c->height - LEAST) * share);
    }
}

static double put_rate_panel(Chart *c, double top, const LoadStats *s, Series *series, Histogram *scratch) {
    double scale = stats_tokens_per_piece(s);
    fill_series(s, LATENCY_NONE, scratch, series);
    begin_panel(c, top, 150, largest(series, point_rate, scale), "Output tokens a second");
    put_area(c, series, point_zero, point_rate, scale, "rate");
    put_curve(c, series, point_rate, scale, "rate", false);
    put_mean(c, stats_output_tokens(s) / c->end_s, "rate");
    return c->top + c->height + PANEL_SPACE;
}

static double put_running_panel(Chart *c, double top, const LoadStats *s, Series *series) {
    double sum = 0;
    for (uint32_t i = 0; i < series->n; i++)
        sum += series->points[i].running * (series->points[i].to_s - series->points[i].from_s);
    char title[2048], failures[256]; // where a character may become six
    StrBuf t = STRBUF(title), f = STRBUF(failures);
    strbuf_put(&t, STR("Running requests"));
    if (s->n_failed) {
        stats_put_failures(&f, s, 3);
        strbuf_put(&t, STR("; failed: "));
        put_escaped(&t, strbuf_str(&f));
    }
    strbuf_put_char(&t, '\0');
    begin_panel(c, top, 70, largest(series, point_running, 1), title);
    put_area(c, series, point_zero, point_running, 1, "running");
    put_curve(c, series, point_running, 1, "running", false);
    put_errors(c, series);
    put_mean(c, series->n ? sum / series->points[series->n - 1].to_s : 0, "running");
    return c->top + c->height + PANEL_SPACE;
}

// Stretches without a sample have no point.
static void drop_empty_points(Series *s) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->points[i].has_latency) s->points[kept++] = s->points[i];
    s->n = kept;
}

// A line's sample and its name, ending at `right`.
static void put_legend(const Chart *c, int right, const char *color, bool is_thin, const char *name,
                       uint64_t value_ns) {
    enum { SAMPLE = 22, ROOM = 110 };
    strbuf_printf(c->out,
                  "<path class=\"curve%s\" stroke=\"var(--%s)\" d=\"M%d %.1fh%d\"/>"
                  "<text class=\"end\" x=\"%d\" y=\"%.1f\">%s ",
                  is_thin ? " thin" : "", color, right - ROOM, c->top - 17, SAMPLE, right, c->top - 13, name);
    chart_put_figure(c->out, (double)value_ns * 1e-6);
    strbuf_put(c->out, STR(" ms</text>\n"));
}

static double put_latency_panel(Chart *c, double top, const LoadStats *s, Latency latency, const char *title,
                                const char *color, Series *series, Histogram *scratch) {
    const Histogram *all = latency == LATENCY_FIRST_TOKEN ? &s->first_token : &s->between;
    fill_series(s, latency, scratch, series);
    drop_empty_points(series);
    begin_panel(c, top, 130, largest(series, point_p99, 1e-6), title);
    put_area(c, series, point_p50, point_p99, 1e-6, color);
    put_curve(c, series, point_p99, 1e-6, color, true);
    put_curve(c, series, point_p50, 1e-6, color, false);
    put_dots(c, series, point_p50, 1e-6, color);
    put_legend(c, RIGHT - 140, color, false, "p50", histogram_percentile(all, 0.5));
    put_legend(c, RIGHT, color, true, "p99", histogram_percentile(all, 0.99));
    return c->top + c->height + PANEL_SPACE;
}

static void put_time_axis(const Chart *c, double y) {
    double step_s = chart_step(c->end_s, 8);
    for (uint32_t i = 0; i * step_s <= c->end_s * (1 + 1e-9); i++) {
        strbuf_printf(c->out, "<text class=\"middle\" x=\"%.1f\" y=\"%.1f\">", x_of(c, i * step_s), y);
        chart_put_tick(c->out, i * step_s, step_s);
        strbuf_put(c->out, STR("</text>"));
    }
    strbuf_printf(c->out, "\n<text class=\"middle\" x=\"%d\" y=\"%.1f\">seconds</text>\n", (LEFT + RIGHT) / 2,
                  y + 19);
}

// ---- the head ----

// A dash where nothing was measured.
static void put_tile(const Chart *c, uint32_t at, const char *name, bool is_known, double value,
                     const char *unit) {
    enum { TILES = 5, GAP = 12 };
    double width = (double)(RIGHT - LEFT + 44 - GAP * (TILES - 1)) / TILES,
           x = LEFT - 44 + at * (width + GAP);
    strbuf_printf(
        c->out,
        "<rect x=\"%.1f\" y=\"88\" width=\"%.1f\" height=\"64\" rx=\"8\" fill=\"var(--tile)\"/>"
        "<text class=\"name\" x=\"%.1f\" y=\"110\">%s</text><text class=\"figure\" x=\"%.1f\" y=\"138\">",
        x, width, x + 14, name, x + 14);
    if (is_known) chart_put_figure(c->out, value);
    else strbuf_put(c->out, STR("\xe2\x80\x93"));
    strbuf_printf(c->out, "<tspan class=\"name\" dx=\"5\">%s</tspan></text>\n", is_known ? unit : "");
}

static void put_latency_tile(const Chart *c, uint32_t at, const char *name, const Histogram *h,
                             double share) {
    put_tile(c, at, name, h->count > 0, (double)histogram_percentile(h, share) * 1e-6, "ms");
}

// As many whole words as fit a line of the settings.
static Str take_line(Str *text) {
    size_t length = text->len;
    if (length > SETTINGS_COLUMNS)
        for (length = SETTINGS_COLUMNS; length > 0 && text->ptr[length] != ' ';)
            length--;
    Str line = str_slice(*text, 0, length ? length : text->len);
    *text = str_slice(*text, min_u64(line.len + 1, text->len), text->len);
    return line;
}

// Of the settings' lines but the first.
static int extra_height(Str settings) {
    int height = -SETTINGS_LINE;
    for (; settings.len; height += SETTINGS_LINE)
        (void)take_line(&settings);
    return height > 0 ? height : 0;
}

static void put_header(const Chart *c, const LoadConfig *config, const LoadResult *r, Str settings) {
    const LoadStats *s = r->stats;
    strbuf_printf(c->out, "<text class=\"title\" x=\"%d\" y=\"42\">", LEFT - 44);
    if (r->model.len) put_escaped(c->out, r->model);
    else put_escaped(c->out, config->server);
    strbuf_printf(c->out, "<tspan class=\"settings\" dx=\"10\">%s at ", load_api_name(config->api));
    put_escaped(c->out, config->server);
    strbuf_put(c->out, STR("</tspan></text>\n"));
    Str rest = settings;
    for (int y = 67; rest.len; y += SETTINGS_LINE) {
        Str line = take_line(&rest);
        strbuf_printf(c->out, "<text class=\"settings\" x=\"%d\" y=\"%d\">", LEFT - 44, y);
        put_escaped(c->out, line);
        strbuf_put(c->out, STR("</text>\n"));
    }
    strbuf_printf(c->out, "<g transform=\"translate(0 %d)\">\n", extra_height(settings));
    double good = s->n_limited ? 100 * (double)s->n_good / (double)s->n_limited : 0;
    put_tile(c, 0, "Output", true, stats_output_tokens(s) / c->end_s, "tokens/s");
    put_tile(c, 1, "Answers", true, (double)s->n_whole / c->end_s, "a second");
    put_latency_tile(c, 2, "First token, p50", &s->first_token, 0.5);
    put_latency_tile(c, 3, "Between tokens, p50", &s->between, 0.5);
    if (load_has_limits(&s->limits)) put_tile(c, 4, "Kept the limits", s->n_limited > 0, good, "%");
    else put_latency_tile(c, 4, "Whole answer, p99", &s->whole, 0.99);
}

void chart_put_svg(StrBuf *out, const LoadConfig *config, const LoadResult *r, Arena scratch) {
    const LoadStats *s = r->stats;
    Chart c = {.out = out, .end_s = stats_seconds(s)};
    Series *series = arena_new(&scratch, Series, 1);
    Histogram *histogram = arena_new(&scratch, Histogram, 1);
    if (!series || !histogram) return;
    if (c.end_s <= 0) c.end_s = 1;
    char text[512];
    StrBuf settings = STRBUF(text);
    load_put_settings(&settings, config);
    if (load_has_limits(&s->limits)) strbuf_put(&settings, STR("; limits: "));
    load_put_limits(&settings, &s->limits);
    const int height = extra_height(strbuf_str(&settings)) + HEADER + 4 * (PANEL_TITLE + PANEL_SPACE) + 150 +
                       70 + 130 + 130 + FOOTER - PANEL_SPACE;
    strbuf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "role=\"img\" aria-label=\"A server under load: tokens a second, running requests, and "
        "latencies over time\">\n",
        WIDTH, height, WIDTH, height);
    strbuf_put(out, str_from_c(style));
    strbuf_printf(out, "<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"var(--paper)\"/>\n", WIDTH, height);
    put_header(&c, config, r, strbuf_str(&settings)); // and begins the group of what is below it
    double top = put_rate_panel(&c, HEADER, s, series, histogram);
    top = put_running_panel(&c, top, s, series);
    top = put_latency_panel(&c, top, s, LATENCY_FIRST_TOKEN, "First token, ms", "first", series, histogram);
    top = put_latency_panel(&c, top, s, LATENCY_BETWEEN, "Between tokens, ms", "between", series, histogram);
    put_time_axis(&c, top - PANEL_SPACE + 20);
    strbuf_put(out, STR("</g>\n</svg>\n"));
}
