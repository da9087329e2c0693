/**
 * @file How sure a figure over documents is: documents are drawn again with replacement, and the figure is computed of
 * each such text. Documents, not tokens, are what varies independently.
 */
import { MoebiusError, createRng } from '@moebius/core';

/** What was measured on one document. */
export interface DocumentBits {
  /** Bits of all of its counted tokens. */
  readonly bits: number;
  /** UTF-8 bytes they stand for. */
  readonly bytes: number;
}

/** How to draw. */
export interface BootstrapOptions {
  /** The same seed and number of documents give the same draws, so that two models can be compared in pairs. Default 0. */
  readonly seed?: number;
  /** Texts to draw. Default 1,000. */
  readonly resamples?: number;
}

/**
 * Bits per byte of texts drawn from the documents.
 *
 * @returns float64 `[resamples]`; NaN throughout where there are fewer than two documents
 */
export function resampleBitsPerByte(
  documents: readonly DocumentBits[],
  options: BootstrapOptions = {},
): Float64Array {
  const { seed = 0, resamples = 1000 } = options;
  const drawn = new Float64Array(resamples).fill(NaN);
  if (documents.length < 2) return drawn;
  const rng = createRng([seed]).fork('bootstrap');
  for (let sample = 0; sample < resamples; sample++) {
    let bits = 0;
    let bytes = 0;
    for (let draw = 0; draw < documents.length; draw++) {
      const document = documents[rng.integer(documents.length)];
      bits += document?.bits ?? 0;
      bytes += document?.bytes ?? 0;
    }
    drawn[sample] = bits / bytes;
  }
  return drawn;
}

/**
 * Standard error of bits per byte; null where there are fewer than two documents.
 *
 * @param documents - of one text
 */
export function standardErrorOf(
  documents: readonly DocumentBits[],
  options: BootstrapOptions = {},
): number | null {
  return deviation(resampleBitsPerByte(documents, options));
}

/**
 * Standard error of the difference in bits per byte between two models on the same documents; null with fewer than two.
 *
 * @throws `data` when the documents are not the same number
 */
export function standardErrorOfDifference(
  left: readonly DocumentBits[],
  right: readonly DocumentBits[],
  options: BootstrapOptions = {},
): number | null {
  if (left.length !== right.length) {
    throw new MoebiusError({
      code: 'data',
      message: `difference: both sides must have the same documents, got ${left.length} and ${right.length} (measure them on one text)`,
      details: { left: left.length, right: right.length },
    });
  }
  const second = resampleBitsPerByte(right, options);
  return deviation(resampleBitsPerByte(left, options).map((value, at) => value - (second[at] ?? NaN)));
}

/** A difference between two models, and where it lies. */
export interface DifferenceInterval {
  /** Right less left, over all documents. */
  readonly difference: number;
  /** Standard error; null with fewer than two documents. */
  readonly error: number | null;
  /** The middle 95 % of the draws; null with fewer than two documents. */
  readonly interval: readonly [low: number, high: number] | null;
}

/**
 * Loss of the right model less that of the left, nats per token, with the middle 95 % of it over the same draws of documents for both.
 *
 * @param left - documents of one text
 * @param right - the same documents
 * @throws `data` when the documents are not the same
 * @example
 * ```ts
 * const dropless = [{ loss: 2, tokens: 100 }, { loss: 3, tokens: 50 }];
 * const capped = [{ loss: 2.5, tokens: 100 }, { loss: 3, tokens: 50 }];
 * differenceInLoss(dropless, capped).difference; // 0.333…: 50 nats over 150 tokens
 * ```
 */
export function differenceInLoss(
  left: readonly DocumentLoss[],
  right: readonly DocumentLoss[],
  options: BootstrapOptions = {},
): DifferenceInterval {
  assertSameDocuments(left, right);
  const nats = right.map(({ loss, tokens }, at) => (loss - (left[at]?.loss ?? NaN)) * tokens);
  const differences = nats.map((bits, at) => ({ bits, bytes: right[at]?.tokens ?? 0 }));
  const total = right.reduce((sum, { tokens }) => sum + tokens, 0);
  const drawn = resampleBitsPerByte(differences, options).toSorted();
  const at = (share: number): number => drawn[Math.round(share * (drawn.length - 1))] ?? NaN;
  const difference = nats.reduce((sum, value) => sum + value, 0) / total;
  const error = deviation(drawn);
  return { difference, error, interval: error === null ? null : [at(0.025), at(0.975)] };
}

/** Loss of one document. */
export interface DocumentLoss {
  /** Mean over its counted tokens, nats. */
  readonly loss: number;
  /** Tokens counted. */
  readonly tokens: number;
}

function assertSameDocuments(left: readonly DocumentLoss[], right: readonly DocumentLoss[]): void {
  const differs = left.findIndex(({ tokens }, at) => tokens !== right[at]?.tokens);
  if (left.length === right.length && differs < 0) return;
  const got =
    left.length === right.length
      ? `${left[differs]?.tokens} and ${right[differs]?.tokens} tokens of document ${differs}`
      : `${left.length} and ${right.length}`;
  throw new MoebiusError({
    code: 'data',
    message: `difference: both sides must have the same documents, got ${got} (measure them on one text)`,
    details: { left: left.length, right: right.length },
  });
}

function deviation(values: Float64Array): number | null {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const result = Math.sqrt(squares / (values.length - 1));
  return Number.isFinite(result) ? result : null;
}
