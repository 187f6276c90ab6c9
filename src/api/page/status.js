// What the worker is and does: facts of /health and /v1/models, charts of /metrics.
import { histogramChart, lineChart, partsChart } from "./charts.js";
import { byId, el } from "./dom.js";
import { bytes, count, duration } from "./figures.js";
import { histogramOf, parseMetrics, quantile, since, valueOf } from "./metrics.js";
import { worker } from "./request.js";
import { getJson, getText } from "./worker.js";

const HEALTH_MS = 5000, STARTING_MS = 1000, METRICS_MS = 2000;
const LENGTH = 90; // readings that a chart holds: three minutes
const KEPT_MINUTES = (LENGTH * METRICS_MS) / 60000;

let health = null;

// ---- facts ----

const STATUS = { healthy: "ready", busy: "busy", starting: "loading", draining: "shutting down",
  unhealthy: "unhealthy" };

const seconds = (all) => (all < 3600 ? duration(all * 1000)
  : `${Math.floor(all / 3600)} h ${Math.floor((all / 60) % 60)} min`);

function factsOf(h) {
  return [
    ["Model", h.model], ["Weights", h.quant_kind],
    ["Context", h.context_length && `${count(h.context_length)} tokens`],
    ["Vocabulary", h.vocab_size && `${count(h.vocab_size)} tokens, ${h.tokenizer_kind}`],
    ["Device", h.sm ? `CUDA, compute capability ${(h.sm / 10).toFixed(1)}` : "CPU"],
    ["Memory", h.vram_bytes_total && `${bytes(h.vram_bytes_used)} of ${bytes(h.vram_bytes_total)}`],
    ["Jobs", h.jobs_max && `${h.jobs_active} running, at most ${h.jobs_max}`],
    ["Driver", h.driver_version], ["Up for", h.uptime_seconds !== undefined && seconds(h.uptime_seconds)],
    ["Worker", h.worker_id],
  ].filter(([, value]) => value);
}

function showHealth() {
  const word = health ? STATUS[health.status] ?? health.status : "not reachable";
  const loaded = health?.status === "starting" ? ` ${Math.floor((health.load_progress ?? 0) * 100)}%` : "";
  byId("status").dataset.status = health?.status ?? "lost";
  byId("status-text").textContent = word + loaded;
  if (!health) return;
  byId("model").textContent = health.model;
  document.title = `${health.model} – worker-orcd`;
  byId("welcome-model").textContent = health.model;
  byId("welcome-facts").textContent = [health.quant_kind, `${count(health.context_length)} tokens of context`,
    health.sm ? "on a GPU" : "on the CPU"].filter(Boolean).join(" · ");
  byId("facts").replaceChildren(...factsOf(health).flatMap(([name, value]) =>
    [el("dt", null, name), el("dd", null, String(value))]));
}

async function readHealth() {
  const before = health?.status;
  health = await getJson("health").catch(() => null);
  showHealth();
  if (health && health.status !== before) readModels();
}

export async function readModels() {
  const models = await getJson("v1/models").catch(() => null);
  const id = models?.data?.[0]?.id;
  if (typeof id === "string") worker.model = id;
}

// ---- charts ----

let readings = []; // { at, metrics }, newest last

const trackOf = (read) => readings.map(({ metrics }) => read(metrics) ?? NaN);
const newest = () => readings.at(-1).metrics;
const ago = `last ${KEPT_MINUTES} minutes`;

function loadChart() {
  const active = valueOf(newest(), "worker_jobs_active");
  const queued = valueOf(newest(), "worker_jobs_queued");
  if (active === undefined) return null;
  const series = [{ name: "running", values: trackOf((m) => valueOf(m, "worker_jobs_active")) }];
  if (queued !== undefined)
    series.push({ name: "waiting", values: trackOf((m) => valueOf(m, "worker_jobs_queued")) });
  return lineChart({
    title: queued === undefined ? "Jobs" : "Jobs and queue", series, length: LENGTH, top: 1, note: ago,
    value: `${count(active)} running${queued === undefined ? "" : `, ${count(queued)} waiting`}`,
  });
}

function rateChart() {
  const name = "worker_tokens_generated_total";
  if (valueOf(newest(), name) === undefined) return null;
  const values = readings.map(({ at, metrics }, i) => {
    const earlier = readings[i - 1];
    if (!earlier) return NaN;
    return Math.max(0, ((valueOf(metrics, name) - valueOf(earlier.metrics, name)) * 1000) / (at - earlier.at));
  });
  const now = values.at(-1);
  return lineChart({ title: "Tokens", series: [{ name: "a second", values }], length: LENGTH, top: 1, note: ago,
    value: Number.isFinite(now) ? `${count(now)} a second` : "" });
}

function pagesChart() {
  const name = "worker_kv_pages", pages = newest().get(name);
  if (pages) {
    const of = (state) => pages.find(({ labels }) => labels.state === state)?.value ?? 0;
    const parts = ["used", "cached", "free"].map((state) => ({ name: state, value: of(state) }));
    const all = parts.reduce((sum, { value }) => sum + value, 0);
    return partsChart({ title: "KV pages", value: `${count(of("used"))} of ${count(all)} used`, parts, note: "" });
  }
  const ratio = valueOf(newest(), "worker_kv_used_ratio");
  if (ratio === undefined) return null;
  return lineChart({ title: "KV cache", value: `${(ratio * 100).toFixed(0)}% used`, length: LENGTH, top: 1,
    series: [{ name: "used", values: trackOf((m) => valueOf(m, "worker_kv_used_ratio")) }], note: ago });
}

function memoryChart() {
  const used = valueOf(newest(), "worker_vram_bytes");
  if (!used) return null; // no device, or it is not told
  return lineChart({ title: "VRAM", value: bytes(used), length: LENGTH, note: ago,
    top: health?.vram_bytes_total ?? used,
    series: [{ name: "used", values: trackOf((m) => valueOf(m, "worker_vram_bytes")) }] });
}

const HISTOGRAMS = [
  ["worker_first_token_ms", "First token", duration],
  ["worker_inter_token_ms", "Between tokens", duration],
  ["worker_queue_ms", "In the queue", duration],
  ["worker_inference_duration_ms", "Whole answers", duration],
  ["worker_batch_rows", "Rows in a step", count],
];

function latencyChart([name, title, show]) {
  const all = histogramOf(newest(), name);
  if (!all || !all.counts.some((one) => one > 0)) return null;
  const recent = since(all, histogramOf(readings[0].metrics, name));
  const at = (share) => show(quantile(recent, share));
  return histogramChart({ title, value: at(0.5), histogram: recent, show,
    note: `half below ${at(0.5)} · 90% ${at(0.9)} · 99% ${at(0.99)} · ` +
      (recent.isAll ? "since the start" : ago) });
}

function showCharts() {
  const charts = [loadChart(), rateChart(), pagesChart(), memoryChart(), ...HISTOGRAMS.map(latencyChart)];
  byId("charts").replaceChildren(...charts.filter(Boolean));
  byId("charts-problem").textContent = "";
}

async function readMetrics() {
  try {
    readings.push({ at: performance.now(), metrics: parseMetrics(await getText("metrics")) });
    readings = readings.slice(-LENGTH);
    showCharts();
  } catch (error) {
    byId("charts-problem").textContent = error.message;
  }
}

// ---- when ----

let isChartDue = () => false;

async function repeat(task, pause) {
  for (;;) {
    if (document.visibilityState === "visible") await task();
    await new Promise((resolve) => setTimeout(resolve, pause()));
  }
}

let isReading = false;

// Charts are read only while they are looked at.
export async function refreshCharts() {
  if (isReading || !isChartDue()) return;
  isReading = true;
  await readMetrics();
  isReading = false;
}

export function openStatus(areChartsShown) {
  isChartDue = areChartsShown;
  repeat(readHealth, () => (health?.status === "starting" ? STARTING_MS : HEALTH_MS));
  repeat(refreshCharts, () => METRICS_MS);
}
