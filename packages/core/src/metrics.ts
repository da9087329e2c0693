/**
 * @file Names and records of metrics, and running statistics.
 *
 * Names are `subject/quantity`, with the unit at the end where there is one (`_per_second`, `_ms`, `_bytes`).
 * A package adds its own names to {@link MetricMap} by module augmentation; a record is then checked everywhere.
 */
import { MoebiusError } from './errors.ts';

/**
 * Every metric name and the type of its value. Augment it:
 *
 * ```ts
 * declare module '@moebius/core' {
 *   interface MetricMap { 'routing/dropped_pairs': number }
 * }
 * ```
 */
export interface MetricMap {
  /** Mean cross-entropy of the training tokens of a step, in nats. */
  'train/loss': number;
  /** Learning rate of the step. */
  'train/learning_rate': number;
  /** Global gradient norm before clipping. */
  'train/gradient_norm': number;
  /** Tokens trained on since the start of the run. */
  'train/tokens': number;
  /** Tokens per second of the step. */
  'train/tokens_per_second': number;
  /** Time of the step. */
  'train/step_ms': number;
  /** Mean cross-entropy of the held-out tokens, in nats. */
  'eval/loss': number;
  /** Bits per byte of the held-out text. */
  'eval/bits_per_byte': number;
}

/** A known metric name. */
export type MetricName = keyof MetricMap;

/** What was measured at one step. */
export type MetricRecord = { readonly step: number } & { readonly [K in MetricName]?: MetricMap[K] };

/** The names this package owns, so that no one has to spell them. */
export const metricNames: {
  readonly trainLoss: 'train/loss';
  readonly learningRate: 'train/learning_rate';
  readonly gradientNorm: 'train/gradient_norm';
  readonly tokens: 'train/tokens';
  readonly tokensPerSecond: 'train/tokens_per_second';
  readonly stepMs: 'train/step_ms';
  readonly evalLoss: 'eval/loss';
  readonly bitsPerByte: 'eval/bits_per_byte';
} = Object.freeze({
  trainLoss: 'train/loss',
  learningRate: 'train/learning_rate',
  gradientNorm: 'train/gradient_norm',
  tokens: 'train/tokens',
  tokensPerSecond: 'train/tokens_per_second',
  stepMs: 'train/step_ms',
  evalLoss: 'eval/loss',
  bitsPerByte: 'eval/bits_per_byte',
});

/** What a {@link RunningStatistics} knows. All values are `NaN` before the first finite one. */
export interface StatisticsSummary {
  /** Finite values seen. */
  readonly count: number;
  /** NaN and infinite values seen; they enter no other number. */
  readonly nonFinite: number;
  /** Mean of all. */
  readonly mean: number;
  /** Population standard deviation of all. */
  readonly standardDeviation: number;
  /** Smallest of all. */
  readonly min: number;
  /** Largest of all. */
  readonly max: number;
  /** The newest. */
  readonly last: number;
  /** Median of the newest `window` values. */
  readonly median: number;
  /** Exponential moving average, corrected for its start at zero (as in Adam). */
  readonly ema: number;
}

/** Statistics of a stream of numbers in constant memory. */
export interface RunningStatistics {
  /** Takes a value. */
  push(value: number): void;
  /** What is known now. */
  summary(): StatisticsSummary;
}

/**
 * Makes an accumulator.
 *
 * @param options - `window`: how many values the median looks back (default 101); `decay`: weight of the past in the
 *   moving average, in [0, 1) (default 0.9)
 * @throws `configuration` when either is out of range.
 */
export function createRunningStatistics(
  options: { readonly window?: number; readonly decay?: number } = {},
): RunningStatistics {
  const { window = 101, decay = 0.9 } = options;
  if (!Number.isInteger(window) || window < 1) {
    throw new MoebiusError({
      code: 'configuration',
      message: `statistics window: must be an integer of at least 1, got ${window}`,
      details: { window: String(window) },
    });
  }
  if (!(decay >= 0 && decay < 1)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `statistics decay: must be in [0, 1), got ${decay}`,
      details: { decay: String(decay) },
    });
  }
  return new Accumulator(window, decay);
}

class Accumulator implements RunningStatistics {
  readonly #window: number;
  readonly #decay: number;
  readonly #recent: number[] = [];
  #count = 0;
  #nonFinite = 0;
  #mean = 0;
  #squares = 0;
  #min = Infinity;
  #max = -Infinity;
  #average = 0;
  #remaining = 1;

  constructor(window: number, decay: number) {
    this.#window = window;
    this.#decay = decay;
  }

  push(value: number): void {
    if (!Number.isFinite(value)) {
      this.#nonFinite += 1;
      return;
    }
    this.#count += 1;
    const difference = value - this.#mean;
    this.#mean += difference / this.#count;
    this.#squares += difference * (value - this.#mean);
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
    this.#average = this.#decay * this.#average + (1 - this.#decay) * value;
    this.#remaining *= this.#decay;
    this.#recent.push(value);
    if (this.#recent.length > this.#window) this.#recent.shift();
  }

  summary(): StatisticsSummary {
    const isEmpty = this.#count === 0;
    return {
      count: this.#count,
      nonFinite: this.#nonFinite,
      mean: isEmpty ? NaN : this.#mean,
      standardDeviation: isEmpty ? NaN : Math.sqrt(this.#squares / this.#count),
      min: isEmpty ? NaN : this.#min,
      max: isEmpty ? NaN : this.#max,
      last: this.#recent.at(-1) ?? NaN,
      median: medianOf(this.#recent),
      ema: isEmpty ? NaN : this.#average / (1 - this.#remaining),
    };
  }
}

/**
 * The median; the mean of the middle two for an even count, `NaN` for none.
 *
 * @param values - finite; not changed
 */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}
