// Prometheus' text format, as far as this worker writes it, and what charts make of two readings of it.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{([^]*)\})? ([^ ]+)/;
const LABEL = /(\w+)="((?:\\.|[^"\\])*)"/g;

const numberOf = (text) => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));

// By name: a list of { labels, value }.
export function parseMetrics(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(LABEL)) labels[name] = value;
    if (!metrics.has(match[1])) metrics.set(match[1], []);
    metrics.get(match[1]).push({ labels, value: numberOf(match[3]) });
  }
  return metrics;
}

// A metric's one value; undefined where there is none.
export const valueOf = (metrics, name) => metrics.get(name)?.[0]?.value;

// A histogram's bounds, and how many values lie in each of its buckets.
export function histogramOf(metrics, name) {
  const samples = metrics.get(`${name}_bucket`);
  if (!samples) return null;
  const buckets = samples.map(({ labels, value }) => ({ bound: numberOf(labels.le), below: value }))
    .sort((a, b) => a.bound - b.bound);
  return {
    bounds: buckets.map(({ bound }) => bound),
    counts: buckets.map(({ below }, i) => below - (i ? buckets[i - 1].below : 0)),
  };
}

// What came after `earlier`; all of it where nothing did, or where the worker has started again.
export function since(histogram, earlier) {
  if (!earlier || earlier.counts.length !== histogram.counts.length) return { ...histogram, isAll: true };
  const counts = histogram.counts.map((count, i) => count - earlier.counts[i]);
  const isNew = counts.some((count) => count > 0) && counts.every((count) => count >= 0);
  return isNew ? { bounds: histogram.bounds, counts, isAll: false } : { ...histogram, isAll: true };
}

// The value below which this share of the values lies, even within each bucket as Prometheus does it.
export function quantile(histogram, share) {
  const total = histogram.counts.reduce((sum, count) => sum + count, 0);
  let rank = share * total;
  for (let i = 0; i < histogram.counts.length; i++) {
    const count = histogram.counts[i];
    if (rank > count || count === 0) {
      rank -= count;
      continue;
    }
    const low = i ? histogram.bounds[i - 1] : 0;
    return histogram.bounds[i] === Infinity ? low : low + (histogram.bounds[i] - low) * (rank / count);
  }
  return NaN;
}
