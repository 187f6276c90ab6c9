// Charts in SVG: lines over the last minutes, and histograms. Colours and widths are the style's. What a
// chart says in numbers is text beside it, so the drawing itself is left out of the accessibility tree.
import { el, svg } from "./dom.js";

const WIDTH = 300, HEIGHT = 64;

function figure(title, value, drawing, note) {
  return el("figure", { class: "chart" },
    el("figcaption", null, el("span", { class: "chart-title" }, title),
      el("span", { class: "chart-value" }, value)),
    drawing, el("p", { class: "chart-note" }, note));
}

const drawing = (...children) => svg("svg", {
  viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "drawing", "aria-hidden": "true",
}, svg("path", { class: "axis", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), ...children);

// `series`: { name, values } each, newest last; a missing value is a gap. `top` is the least upper end.
export function lineChart({ title, value, series, length, top, note }) {
  const all = series.flatMap(({ values }) => values).filter(Number.isFinite);
  const most = Math.max(top, ...all) || 1;
  const step = WIDTH / (length - 1);
  const marks = series.flatMap(({ values }, i) => {
    const begin = WIDTH - step * (values.length - 1);
    let path = "", isGap = true, first = 0, last = 0;
    values.forEach((one, k) => {
      if (!Number.isFinite(one)) {
        isGap = true;
        return;
      }
      last = begin + k * step;
      if (!path) first = last;
      path += `${isGap ? "M" : "L"}${last.toFixed(1)} ${(HEIGHT - 2 - (one / most) * (HEIGHT - 6)).toFixed(1)}`;
      if (isGap) path += "h0.1"; // a point by itself is seen, too
      isGap = false;
    });
    if (!path) return [];
    const line = svg("path", { class: `line series-${i}`, d: path });
    const area = svg("path", { class: `area series-${i}`, d: `${path}V${HEIGHT}H${first.toFixed(1)}Z` });
    return i === 0 ? [area, line] : [line];
  });
  const keys = series.length < 2 ? null : el("span", { class: "chart-keys" },
    ...series.map(({ name }, i) => el("span", { class: `key series-${i}` }, name)));
  return figure(title, value, drawing(...marks), el("span", null, keys ?? "", note));
}

// Parts of a whole, side by side: { name, value } each.
export function partsChart({ title, value, parts, note }) {
  const total = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  let left = 0;
  const bars = parts.map((part, i) => {
    const width = (part.value / total) * WIDTH;
    const bar = svg("rect", { class: `bar series-${i}`, x: left, y: 0, width, height: HEIGHT });
    left += width;
    return bar;
  });
  const keys = el("span", { class: "chart-keys" }, ...parts.map(({ name, value: count }, i) =>
    el("span", { class: `key series-${i}` }, `${name} ${count.toLocaleString("en")}`)));
  const whole = drawing(...bars);
  whole.classList.add("parts");
  return figure(title, value, whole, el("span", null, keys, note));
}

const BARS_LEAST = 9;

// The buckets that hold something, those between them, and some beside them. `show` writes a bound.
export function histogramChart({ title, value, histogram, show, note }) {
  const used = histogram.counts.map((count, i) => (count > 0 ? i : -1)).filter((i) => i >= 0);
  const end = histogram.counts.length - 1;
  let first = used[0], last = used.at(-1);
  while (last - first + 1 < Math.min(BARS_LEAST, end + 1)) {
    if (first > 0) first--;
    if (last < end) last++;
  }
  const top = histogram.bounds[last];
  const ends = el("span", { class: "chart-ends" }, el("span", null, first ? show(histogram.bounds[first - 1]) : "0"),
    el("span", null, top === Infinity ? `over ${show(histogram.bounds[last - 1])}` : show(top)));
  const shown = histogram.counts.slice(first, last + 1);
  const most = Math.max(...shown), step = WIDTH / shown.length;
  const bars = shown.map((count, i) => {
    const height = count ? Math.max(2, (count / most) * (HEIGHT - 6)) : 0;
    return svg("rect", {
      class: "bar series-0", x: i * step + step * 0.08, y: HEIGHT - 1 - height, width: step * 0.84, height,
    });
  });
  return figure(title, value, drawing(...bars), el("span", null, ends, note));
}
