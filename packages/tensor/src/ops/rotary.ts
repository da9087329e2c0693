/**
 * @file Rotary position tables (RoFormer, Su et al. 2021), in Hugging Face's rotate-half layout: component `i` of a head
 * is paired with component `i + C/2`, both turned by `position · θ^(−2i/C)`.
 *
 * Angles are rounded to float32 where PyTorch rounds them, so that tables equal Hugging Face's.
 *
 * Legend: `P` positions · `C` head width.
 */
import { MoebiusError } from '@moebius/core';
import { tensor2d } from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';

import { assertCount } from './assert-shape.ts';
import { rotaryAngles } from './rotary.kernel.ts';

/** Cosines and sines by position; owned by whoever made it, freed with `disposeTree`. */
export interface RotaryTable {
  /** float32 `[P, C/2]`. */
  readonly cos: Tensor2D;
  /** float32 `[P, C/2]`. */
  readonly sin: Tensor2D;
}

/** Options of {@link rotaryTable}. */
export interface RotaryTableOptions {
  /** Head width `C`, even. */
  readonly headSize: number;
  /** Number of positions `P`. */
  readonly positions: number;
  /** Base of the frequencies; default 10,000. */
  readonly theta?: number;
  /** `C/2` frequencies to use instead of `theta^(−2i/C)` (scaled RoPE: linear, NTK, YaRN, Llama 3). */
  readonly inverseFrequencies?: ArrayLike<number>;
  /** Multiplies cosines and sines (YaRN's attention factor); default 1. */
  readonly attentionFactor?: number;
}

/**
 * Cosines and sines for positions `0 … P−1`.
 *
 * @returns tables float32 `[P, C/2]`, owned by the caller
 * @throws `configuration` on an odd head size; `shape` on a wrong number of frequencies
 */
export function rotaryTable(options: RotaryTableOptions): RotaryTable {
  const { headSize, positions, theta = 10_000, inverseFrequencies, attentionFactor = 1 } = options;
  if (!Number.isInteger(headSize) || headSize < 2 || headSize % 2 !== 0) {
    throw new MoebiusError({
      code: 'configuration',
      message: `rotaryTable headSize: must be even and at least 2, got ${headSize}`,
      details: { headSize },
    });
  }
  const half = headSize / 2;
  if (inverseFrequencies !== undefined) {
    assertCount(inverseFrequencies.length, half, 'rotaryTable inverseFrequencies length');
  }
  const frequencies = inverseFrequencies ?? standardFrequencies(half, theta);
  const { cos, sin } = rotaryAngles(frequencies, positions, attentionFactor);
  return { cos: tensor2d(cos, [positions, half]), sin: tensor2d(sin, [positions, half]) };
}

function standardFrequencies(half: number, theta: number): Float32Array {
  return Float32Array.from({ length: half }, (_, i) => 1 / Math.fround(theta ** Math.fround(i / half)));
}
