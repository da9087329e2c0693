/**
 * @file Decoders of narrow element types. Each reads packed little-endian bytes and writes one 32-bit value per element.
 *
 * They run forwards, and the packed bytes may lie at the *end of the output's own buffer*: element i is read before
 * output i + 1 is written, and output i never reaches the bytes of element i + 1. So decoding needs no second buffer.
 */

/** Exponent bits, mantissa bits and special values of a small float. */
export interface MiniFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** `ieee`: top exponent is Inf/NaN; `fn`: all ones is NaN; `fnuz`: only -0 is NaN; `finite`: every code is a number. */
  readonly special: 'ieee' | 'fn' | 'fnuz' | 'finite';
}

/** BF16: the upper half of a float32. */
export function decodeBf16Into(out: Float32Array, packed: Uint16Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let at = 0; at < bits.length; at += 1) bits[at] = packed[at]! << 16;
}

/** F16 (IEEE binary16), subnormals, infinities and NaN payloads included. */
export function decodeF16Into(out: Float32Array, packed: Uint16Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let at = 0; at < bits.length; at += 1) {
    const half = packed[at]!;
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 31;
    const mantissa = half & 0x3ff;
    if (exponent === 31) bits[at] = sign | 0x7f800000 | (mantissa << 13);
    else if (exponent !== 0) bits[at] = sign | ((exponent + 112) << 23) | (mantissa << 13);
    else {
      const magnitude = mantissa / 16_777_216;
      out[at] = sign === 0 ? magnitude : -magnitude;
    }
  }
}

/** Every value of a small float, by its code. */
export function miniFloatTable(format: MiniFloat): Float32Array {
  const { exponentBits, mantissaBits, bias, special } = format;
  const codes = 1 << (1 + exponentBits + mantissaBits);
  const table = new Float32Array(codes);
  const topExponent = (1 << exponentBits) - 1;
  const topMantissa = (1 << mantissaBits) - 1;
  for (let code = 0; code < codes; code += 1) {
    const sign = code >= codes / 2 ? -1 : 1;
    const exponent = (code >>> mantissaBits) & topExponent;
    const mantissa = code & topMantissa;
    const fraction = mantissa / (1 << mantissaBits);
    let value = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
    if (special === 'ieee' && exponent === topExponent) value = mantissa === 0 ? Infinity : NaN;
    if (special === 'fn' && exponent === topExponent && mantissa === topMantissa) value = NaN;
    if (special === 'fnuz' && sign < 0 && exponent === 0 && mantissa === 0) value = NaN;
    table[code] = sign * value;
  }
  return table;
}

/** Every value of E8M0: powers of two from 2^-127 to 2^127, and NaN. */
export function powerTable(): Float32Array {
  const table = new Float32Array(256);
  for (let code = 0; code < 255; code += 1) table[code] = 2 ** (code - 127);
  table[255] = NaN;
  return table;
}

/** One byte per element, through a table of 256. */
export function decodeBytesInto(out: Float32Array, packed: Uint8Array, table: Float32Array): void {
  for (let at = 0; at < out.length; at += 1) out[at] = table[packed[at]!]!;
}

/** `width` bits per element, lowest bits of the first byte first, through a table. */
export function decodeBitsInto(
  out: Float32Array,
  packed: Uint8Array,
  format: { readonly width: number; readonly table: Float32Array },
): void {
  const { width, table } = format;
  const mask = (1 << width) - 1;
  for (let at = 0; at < out.length; at += 1) {
    const bit = at * width;
    const byte = Math.floor(bit / 8);
    const pair = packed[byte]! | ((packed[byte + 1] ?? 0) << 8);
    out[at] = table[(pair >>> (bit % 8)) & mask]!;
  }
}

/** Small integers, widened. */
export function widenInto(out: Int32Array, packed: Uint8Array | Int8Array | Uint16Array | Int16Array): void {
  for (let at = 0; at < out.length; at += 1) out[at] = packed[at]!;
}

/** The index of the first byte that is neither 0 nor 1, or -1. */
export function firstNonBoolean(bytes: Uint8Array): number {
  for (let at = 0; at < bytes.length; at += 1) if (bytes[at]! > 1) return at;
  return -1;
}

/** The same values as int32, or `undefined` when one does not fit. */
export function narrowToInt32(values: BigInt64Array | BigUint64Array | Uint32Array): Int32Array | undefined {
  const out = new Int32Array(values.length);
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at]!;
    if (value > 2_147_483_647 || value < -2_147_483_648) return undefined;
    out[at] = Number(value);
  }
  return out;
}
