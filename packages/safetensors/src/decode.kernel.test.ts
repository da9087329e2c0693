import { bitsOf, type DType, dtypes } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { decodeTensor } from './codec.ts';

/** Exponent bits, mantissa bits, bias and special codes, as the papers and the ONNX table of float8 types have them. */
type SmallFloat = readonly [number, number, number, (code: number) => number | undefined];
const SMALL_FLOATS: ReadonlyMap<DType, SmallFloat> = new Map<DType, SmallFloat>([
  ['F16', [5, 10, 15, (code) => ieee(code, 5, 10)]],
  ['BF16', [8, 7, 127, (code) => ieee(code, 8, 7)]],
  ['F8_E5M2', [5, 2, 15, (code) => ieee(code, 5, 2)]],
  ['F8_E4M3', [4, 3, 7, (code) => ((code & 0x7f) === 0x7f ? NaN : undefined)]],
  ['F8_E4M3FNUZ', [4, 3, 8, (code) => (code === 0x80 ? NaN : undefined)]],
  ['F8_E5M2FNUZ', [5, 2, 16, (code) => (code === 0x80 ? NaN : undefined)]],
  ['F6_E2M3', [2, 3, 1, () => undefined]],
  ['F6_E3M2', [3, 2, 3, () => undefined]],
  ['F4', [2, 1, 1, () => undefined]],
]);

function ieee(code: number, exponentBits: number, mantissaBits: number): number | undefined {
  const body = code & ((1 << (exponentBits + mantissaBits)) - 1);
  const infinity = ((1 << exponentBits) - 1) << mantissaBits;
  if (body < infinity) return undefined;
  if (body > infinity) return NaN;
  return code === body ? Infinity : -Infinity;
}

/** One element, read bit by bit from big integers. */
function elementAt(bytes: Uint8Array, dtype: DType, index: number): number | bigint {
  const bits = bitsOf(dtype);
  const whole = BigInt(`0x0${Buffer.from(bytes.toReversed()).toString('hex')}`);
  const code = (whole >> BigInt(index * bits)) & ((1n << BigInt(bits)) - 1n);
  const signed = BigInt.asIntN(bits, code);
  if (dtype === 'F32') return new Float32Array(Uint32Array.of(Number(code)).buffer)[0] ?? NaN;
  if (dtype === 'F64') return Math.fround(new Float64Array(BigUint64Array.of(code).buffer)[0] ?? NaN);
  if (dtype === 'F8_E8M0') return code === 255n ? NaN : 2 ** (Number(code) - 127);
  const small = SMALL_FLOATS.get(dtype);
  if (small === undefined) return dtype.startsWith('I') ? signed : code;
  const [exponentBits, mantissaBits, bias, special] = small;
  const number = Number(code);
  const exponent = (number >> mantissaBits) % 2 ** exponentBits;
  const fraction = (number % 2 ** mantissaBits) / 2 ** mantissaBits;
  const magnitude = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias);
  return special(number) ?? (number >= 2 ** (bits - 1) ? -magnitude : magnitude);
}

describe('decoding in place', () => {
  const types = dtypes.filter((dtype) => dtype !== 'C64' && dtype !== 'BOOL');

  it.each(types)('%s: random bytes of any length are decoded element by element', (dtype) => {
    const step = dtype.startsWith('F6') ? 4 : dtype === 'F4' ? 2 : 1;
    fc.assert(
      fc.property(
        fc.nat({ max: 12 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 255 })),
        (groups, stream) => {
          const count = groups * step;
          const bytes = Uint8Array.from(
            { length: (count * bitsOf(dtype)) / 8 },
            () => stream.next().value ?? 0,
          );
          const { data } = decodeTensor(bytes, { dtype, shape: [count] }, { allowLossy: true });
          expect(data.length).toBe(count);
          for (const [at, got] of [...data].entries()) {
            const want = elementAt(bytes, dtype, at);
            const same = typeof want === 'bigint' ? BigInt(got) === want : Object.is(got, want);
            if (!same) expect.unreachable(`element ${at} of ${bytes}: ${got} for ${want}`);
          }
        },
      ),
    );
  });
});
