/**
 * @file Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3" (SC11), and the exact arithmetic on its output. Everything here is 32-bit integer work or
 * IEEE-754 `+ - * /` and `sqrt`, so that the numbers are the same bits on every machine and engine
 * (`Math.log` and `Math.cos` are not specified to the last bit; they are not used).
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** High 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/**
 * One block: encrypts the counter under the key.
 *
 * @param out - uint32 `[4]`, written; may be `counter` itself
 * @param counter - uint32 `[4]`
 * @param key - uint32 `[2]`
 */
export function philoxInto(out: Uint32Array, counter: Uint32Array, key: Uint32Array): void {
  let c0 = counter[0]!;
  let c1 = counter[1]!;
  let c2 = counter[2]!;
  let c3 = counter[3]!;
  let k0 = key[0]! | 0;
  let k1 = key[1]! | 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Hashes words to 128 bits (Davies-Meyer over Philox: the message is the key, with feed-forward; the length ends it).
 *
 * @param words - uint32 `[n]`
 * @returns uint32 `[4]`, caller owns
 */
export function digestWords(words: Uint32Array): Uint32Array {
  const digest = new Uint32Array([0x6d6f6562, 0x69757320, 0x726e6720, 0x76310000]);
  const key = new Uint32Array(2);
  const mixed = new Uint32Array(4);
  for (let at = 0; at <= words.length; at += 2) {
    key[0] = at < words.length ? words[at]! : 0x80000000;
    key[1] = at + 1 < words.length ? words[at + 1]! : words.length;
    philoxInto(mixed, digest, key);
    for (let lane = 0; lane < 4; lane += 1) digest[lane] = digest[lane]! ^ mixed[lane]!;
  }
  key[0] = words.length;
  key[1] = 0xffffffff;
  philoxInto(mixed, digest, key);
  for (let lane = 0; lane < 4; lane += 1) digest[lane] = digest[lane]! ^ mixed[lane]!;
  return digest;
}

/** Natural logarithm of `x` in (0, 1], by the series of `2 atanh`: error below 1e-15 of max(1, |log x|), same bits everywhere. */
export function portableLog(x: number): number {
  let mantissa = x;
  let exponent = 0;
  while (mantissa < 0.00001) {
    mantissa *= 65_536;
    exponent -= 16;
  }
  while (mantissa < 0.7071067811865476) {
    mantissa *= 2;
    exponent -= 1;
  }
  const ratio = (mantissa - 1) / (mantissa + 1);
  const square = ratio * ratio;
  let sum = 0;
  for (let odd = 23; odd >= 1; odd -= 2) sum = sum * square + 1 / odd;
  return 2 * ratio * sum + exponent * 0.6931471805599453;
}

function rational(r: number, numerator: readonly number[], denominator: readonly number[]): number {
  let top = 0;
  let bottom = 0;
  for (let at = numerator.length - 1; at >= 0; at -= 1) {
    top = top * r + numerator[at]!;
    bottom = bottom * r + denominator[at]!;
  }
  return top / bottom;
}

// Wichura (1988), algorithm AS 241, PPND16: coefficients of the three ranges as doubles, constant term first.
const A: readonly number[] = [
  3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946, 45921.95393154987,
  67265.7709270087, 33430.57558358813, 2509.0809287301227,
];
const B: readonly number[] = [
  1, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597, 39307.89580009271,
  28729.085735721943, 5226.495278852854,
];
const C: readonly number[] = [
  1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045, 1.2704582524523684,
  0.2417807251774506, 0.022723844989269184, 0.0007745450142783414,
];
const D: readonly number[] = [
  1, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008, 0.015198666563616457,
  0.0005475938084995345, 1.0507500716444169e-9,
];
const E: readonly number[] = [
  6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487, 0.026532189526576124,
  0.0012426609473880784, 0.000027115555687434876, 2.0103343992922881e-7,
];
const F: readonly number[] = [
  1, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133,
  0.000018463183175100548, 1.421511758316446e-7, 2.0442631033899397e-15,
];

/**
 * The standard normal quantile of a probability (AS 241, about 16 digits).
 *
 * @param probability - strictly between 0 and 1
 */
export function normalQuantile(probability: number): number {
  const centred = probability - 0.5;
  if (Math.abs(centred) <= 0.425) return centred * rational(0.180625 - centred * centred, A, B);
  const tail = centred < 0 ? probability : 1 - probability;
  const r = Math.sqrt(-portableLog(tail));
  const magnitude = r <= 5 ? rational(r - 1.6, C, D) : rational(r - 5, E, F);
  return centred < 0 ? -magnitude : magnitude;
}

/** A normal deviate from one uint32: the quantile of the middle of its cell; |z| stays below 6.4. */
export function normalOfWord(word: number): number {
  return normalQuantile((word + 0.5) / 4_294_967_296);
}

/** Where bulk fills take their words from. */
export type NextWord = () => number;

/** Fills with `mean + standardDeviation * z`, one word each. */
export function fillNormalInto(
  out: Float32Array,
  next: NextWord,
  distribution: { readonly mean: number; readonly standardDeviation: number },
): void {
  for (let at = 0; at < out.length; at += 1) {
    out[at] = distribution.mean + distribution.standardDeviation * normalOfWord(next());
  }
}

/** Fills with `low + (high - low) * u`, u of 24 bits in [0, 1), one word each; a value rounded up to `high` is `low`. */
export function fillUniformInto(
  out: Float32Array,
  next: NextWord,
  range: { readonly low: number; readonly high: number },
): void {
  const width = range.high - range.low;
  const high = Math.fround(range.high);
  for (let at = 0; at < out.length; at += 1) {
    const value = Math.fround(range.low + width * ((next() >>> 8) / 16_777_216));
    out[at] = value < high ? value : range.low;
  }
}

/** Fisher-Yates, in place. `below(n)` draws an unbiased integer in [0, n). */
export function shuffleInto(values: Int32Array, below: (bound: number) => number): void {
  for (let last = values.length - 1; last > 0; last -= 1) {
    const pick = below(last + 1);
    const held = values[last]!;
    values[last] = values[pick]!;
    values[pick] = held;
  }
}
