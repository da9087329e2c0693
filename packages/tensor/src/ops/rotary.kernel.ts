/**
 * @file Loops over rotary angles. No tensors.
 */

/**
 * Cosines and sines of `position · frequency`, the product rounded to float32.
 *
 * @param frequencies - `[C/2]`
 * @param positions - `P`
 * @param factor - multiplies both
 * @returns two float32 `[P, C/2]`, row-major
 */
export function rotaryAngles(
  frequencies: ArrayLike<number>,
  positions: number,
  factor: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p += 1) {
    for (let i = 0; i < half; i += 1) {
      const angle = Math.fround(p * Math.fround(frequencies[i]!));
      cos[p * half + i] = Math.cos(angle) * factor;
      sin[p * half + i] = Math.sin(angle) * factor;
    }
  }
  return { cos, sin };
}
