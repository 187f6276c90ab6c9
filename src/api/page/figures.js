// How fast an answer was: what the worker says of it, or else what this page saw.

const LEAST_MS = 50; // what came within less says nothing of a rate

export const startFigures = () => ({ sent: performance.now(), first: 0, last: 0, pieces: 0 });

export function countPiece(figures) {
  figures.last = performance.now();
  figures.first ||= figures.last;
  figures.pieces++;
}

// What is kept of an answer: numbers alone, in ms and tokens.
export function finishFigures({ sent, first, last, pieces }, usage, timings) {
  const tokens = usage?.completion_tokens ?? pieces;
  const seen = tokens > 1 && last - first >= LEAST_MS ? ((tokens - 1) * 1000) / (last - first) : 0;
  return {
    tokens, rate: timings?.tokens_per_second || seen,
    firstMs: timings?.first_token_ms ?? (first ? first - sent : 0), queuedMs: timings?.queued_ms ?? 0,
    cached: usage?.prompt_tokens_details?.cached_tokens ?? 0,
  };
}

export const count = (number) => Math.round(number).toLocaleString("en");

export function duration(ms) {
  if (ms < 1) return `${ms.toPrecision(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.floor((ms / 1000) % 60)} s`;
}

export const bytes = (number) => (number < 1e6 ? `${count(number / 1e3)} kB`
  : number < 1e9 ? `${count(number / 1e6)} MB` : `${(number / 1e9).toFixed(1)} GB`);

export function figuresText({ tokens, rate, firstMs, queuedMs, cached }) {
  const parts = [`${count(tokens)} ${tokens === 1 ? "token" : "tokens"}`];
  if (rate > 0) parts.push(`${rate < 100 ? rate.toFixed(1) : count(rate)} a second`);
  if (firstMs > 0) parts.push(`first after ${duration(firstMs)}`);
  if (queuedMs >= LEAST_MS) parts.push(`${duration(queuedMs)} in the queue`);
  if (cached > 0) parts.push(`${count(cached)} of the prompt's from the cache`);
  return parts.join(" · ");
}
