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

function deviation(values: Float64Array): number | null {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const result = Math.sqrt(squares / (values.length - 1));
  return Number.isFinite(result) ? result : null;
}
