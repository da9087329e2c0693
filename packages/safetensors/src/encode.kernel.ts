/** @file Encoders into narrow element types: round to nearest, ties to even; NaN stays a (quiet) NaN. */

/** BF16. A NaN becomes a quiet NaN of its sign and upper payload, never an infinity. */
export function encodeBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let at = 0; at < bits.length; at += 1) {
    const word = bits[at]!;
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    out[at] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** F16. Values of magnitude 65,520 and more become infinities, as IEEE rounding says. */
export function encodeF16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let at = 0; at < bits.length; at += 1) {
    const word = bits[at]!;
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) out[at] = sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
    else if (magnitude >= 0x477ff000) out[at] = sign | 0x7c00;
    else if (magnitude >= 0x38800000) {
      out[at] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
    } else out[at] = sign | roundSubnormal(magnitude);
  }
  return out;
}

/** The F16 subnormal (or smallest normal) nearest to a float32 below 2^-14, in units of 2^-24. */
function roundSubnormal(magnitude: number): number {
  const exponent = magnitude >>> 23;
  if (exponent < 102) return 0;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - exponent;
  const kept = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
}

/** The index of the first value outside [low, high] or not an integer, or -1. */
export function firstOutside(
  values: Float32Array | Int32Array | Uint8Array,
  range: { readonly low: number; readonly high: number },
): number {
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at]!;
    if (!Number.isInteger(value) || value < range.low || value > range.high) return at;
  }
  return -1;
}
