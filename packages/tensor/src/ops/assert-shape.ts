/**
 * @file Shape checks at public boundaries: integers only, always on.
 */
import { MoebiusError } from '@moebius/core';
import type { Tensor } from '@tensorflow/tfjs';

/** Sizes by letter. A letter that is missing is bound by the first tensor that has it. */
export type Dims = { [letter: string]: number };

/**
 * Checks a tensor against a pattern of size letters and numbers, and binds letters that are still free.
 *
 * @param tensor - `[…]`, borrowed
 * @param pattern - for example `'T D'`, `'B S 3'`, or `''` for a scalar; `*` matches any size
 * @param dims - sizes known so far; free letters of the pattern are added
 * @param subject - how to call the tensor in the message
 * @throws `shape` with both numbers
 * @example
 * ```ts
 * const dims: Dims = {};
 * assertShape(x_TD, 'T D', dims, 'x');
 * assertShape(weight_D, 'D', dims, 'weight');
 * ```
 */
export function assertShape(tensor: Tensor, pattern: string, dims: Dims = {}, subject = 'tensor'): void {
  const letters = pattern.length === 0 ? [] : pattern.split(' ');
  const { shape } = tensor;
  if (shape.length !== letters.length) {
    throw new MoebiusError({
      code: 'shape',
      message: `${subject}: must have rank ${letters.length} [${letters.join(', ')}], got rank ${shape.length} [${shape.join(', ')}]`,
      details: { subject, pattern, expectedRank: letters.length, rank: shape.length, shape },
    });
  }
  for (const [axis, letter] of letters.entries()) {
    if (letter === '*') continue;
    const size = shape[axis] ?? 0;
    const expected = /^\d+$/.test(letter) ? Number(letter) : dims[letter];
    if (expected === undefined) dims[letter] = size;
    else if (expected !== size) throw wrongSize({ subject, letters, shape, axis, letter, expected, size });
  }
}

interface WrongSize {
  subject: string;
  letters: string[];
  shape: number[];
  axis: number;
  letter: string;
  expected: number;
  size: number;
}

function wrongSize(at: WrongSize): MoebiusError {
  const { subject, letters, shape, axis, letter, expected, size } = at;
  const name = /^\d+$/.test(letter) ? `axis ${axis}` : `${letter} (axis ${axis})`;
  return new MoebiusError({
    code: 'shape',
    message: `${subject}: ${name} must be ${expected}, got ${size} in [${shape.join(', ')}] for [${letters.join(', ')}]`,
    details: { subject, axis, letter, expected, got: size, shape },
  });
}

/**
 * Checks a count against another, for sizes that are not a tensor's axis.
 *
 * @throws `shape` with both numbers
 */
export function assertCount(got: number, expected: number, subject: string): void {
  if (got === expected) return;
  throw new MoebiusError({
    code: 'shape',
    message: `${subject}: must be ${expected}, got ${got}`,
    details: { subject, expected, got },
  });
}

/**
 * Checks that `total` splits evenly into `parts`.
 *
 * @returns the size of one part
 * @throws `shape` with both numbers
 */
export function assertDivides(total: number, parts: number, subject: string): number {
  if (Number.isInteger(parts) && parts > 0 && total % parts === 0) return total / parts;
  throw new MoebiusError({
    code: 'shape',
    message: `${subject}: must divide evenly, got ${total} by ${parts}`,
    details: { subject, total, parts },
  });
}
