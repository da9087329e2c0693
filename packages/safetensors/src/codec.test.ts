import type { DType } from '@moebius/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { decodeTensor, type EncodableData, encodeTensor, planDecode, type TensorValue } from './codec.ts';

const floats = (...values: number[]): Float32Array => Float32Array.of(...values);
const bytesOf = (view: ArrayBufferView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function decode(dtype: DType, packed: ArrayBufferView, count: number): TensorValue {
  return decodeTensor(bytesOf(packed), { dtype, shape: [count] });
}

function encode(data: EncodableData, dtype: DType, count: number): Uint8Array {
  return encodeTensor(data, { dtype, shape: [count] });
}

const everyCode = Uint16Array.from({ length: 65_536 }, (_, code) => code);

/** The value of a 16-bit float by its definition, in doubles. */
function valueOf(code: number, exponentBits: number): number {
  const mantissaBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = code >= 0x8000 ? -1 : 1;
  const exponent = (code % 0x8000) >> mantissaBits;
  const mantissa = code % 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return mantissa === 0 ? sign * Infinity : NaN;
  const fraction = mantissa / 2 ** mantissaBits;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

describe.each([
  ['BF16', 8],
  ['F16', 5],
] as const)('%s', (dtype, exponentBits) => {
  const decoded = decode(dtype, everyCode, 65_536).data as Float32Array;

  it('decodes all 65,536 patterns to their values, NaN payloads kept', () => {
    const bits = new Uint32Array(decoded.buffer);
    for (const code of everyCode) {
      const value = valueOf(code, exponentBits);
      if (!Object.is(decoded[code], value)) expect.unreachable(`code ${code}: ${decoded[code]} for ${value}`);
      if (Number.isNaN(value)) {
        const expected =
          dtype === 'BF16' ? code << 16 : ((code & 0x8000) << 16) | 0x7f800000 | ((code & 0x3ff) << 13);
        expect(bits[code]).toBe(expected >>> 0);
      }
    }
  });

  it('encodes all 65,536 decoded patterns to themselves, NaN made quiet', () => {
    const quiet = dtype === 'BF16' ? 0x40 : 0x200;
    const codes = new Uint16Array(encode(decoded, dtype, 65_536).slice().buffer);
    for (const code of everyCode) {
      const expected = Number.isNaN(valueOf(code, exponentBits)) ? code | quiet : code;
      if (codes[code] !== expected) expect.unreachable(`code ${code} came back as ${codes[code]}`);
    }
  });

  it('rounds to nearest, ties to even, in every cell: below, at and above each midpoint', () => {
    const largest = dtype === 'BF16' ? 0x7f7f : 0x7bff;
    const probes: number[] = [];
    const expected: number[] = [];
    for (let code = 0; code <= largest; code += 1) {
      const low = valueOf(code, exponentBits);
      const high =
        code === largest ? 2 * low - valueOf(code - 1, exponentBits) : valueOf(code + 1, exponentBits);
      const middle = (low + high) / 2;
      if (Math.fround(middle) !== middle) continue;
      const [below, above] = neighbours(middle);
      probes.push(below, middle, above);
      expected.push(code, code % 2 === 0 ? code : code + 1, code + 1);
    }
    expect(probes.length).toBeGreaterThan(90_000);
    const codes = new Uint16Array(encode(Float32Array.from(probes), dtype, probes.length).slice().buffer);
    const negative = new Uint16Array(
      encode(
        Float32Array.from(probes, (x) => -x),
        dtype,
        probes.length,
      ).slice().buffer,
    );
    for (const [at, code] of expected.entries()) {
      if (codes[at] !== code) expect.unreachable(`${probes[at]} became ${codes[at]}, not ${code}`);
      if (negative[at] !== (code | 0x8000)) expect.unreachable(`-${probes[at]} became ${negative[at]}`);
    }
  });

  it('keeps infinities and signed zeros and turns what is too large into infinity', () => {
    const infinity = dtype === 'BF16' ? 0x7f80 : 0x7c00;
    const codes = new Uint16Array(
      encode(floats(Infinity, -Infinity, 0, -0, 3.4e38, 1e-45, -1e-45), dtype, 7).slice().buffer,
    );
    expect([...codes]).toEqual([infinity, infinity | 0x8000, 0, 0x8000, infinity, 0, 0x8000]);
  });

  it('never turns a NaN into an infinity, whatever its payload', () => {
    const words = Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff, 0x7f80ffff, 0x7fc00000);
    const again = decodeTensor(encode(new Float32Array(words.buffer), dtype, 6), { dtype, shape: [6] });
    expect([...again.data].every((value) => Number.isNaN(Number(value)))).toBe(true);
  });
});

/** The float32 values next to a positive float32. */
function neighbours(value: number): [number, number] {
  const word = new Uint32Array(floats(value).buffer)[0] ?? 0;
  const pair = new Float32Array(Uint32Array.of(word - 1, word + 1).buffer);
  return [pair[0] ?? NaN, pair[1] ?? NaN];
}

describe('decodeTensor', () => {
  it('unpacks 4-bit floats, low half of the byte first', () => {
    const codes = Uint8Array.of(0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe);
    const positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
    expect([...decode('F4', codes, 16).data]).toEqual([...positive, ...positive.map((value) => -value)]);
  });

  it.each([
    ['F6_E2M3', [0, 0.125, 0.875, 1, 1.125, 7.5, -0, -7.5], [0, 1, 7, 8, 9, 31, 32, 63]],
    ['F6_E3M2', [0, 0.0625, 0.1875, 0.25, 0.3125, 28, -0, -28], [0, 1, 3, 4, 5, 31, 32, 63]],
  ] as const)('unpacks %s, lowest bits first', (dtype, values, codes) => {
    const bits = codes
      .map((code) => code.toString(2).padStart(6, '0').split('').toReversed().join(''))
      .join('');
    const packed = Uint8Array.from({ length: 6 }, (_, at) =>
      Number.parseInt(
        bits
          .slice(at * 8, at * 8 + 8)
          .split('')
          .toReversed()
          .join(''),
        2,
      ),
    );
    expect([...decode(dtype, packed, 8).data]).toEqual(values);
  });

  it('widens small integers to int32 and narrows large ones that fit', () => {
    expect(decode('U8', Uint8Array.of(0, 255), 2)).toMatchObject({
      dtype: 'int32',
      data: Int32Array.of(0, 255),
    });
    expect(decode('I8', Int8Array.of(-128, 127), 2).data).toEqual(Int32Array.of(-128, 127));
    expect(decode('U16', Uint16Array.of(0, 65_535), 2).data).toEqual(Int32Array.of(0, 65_535));
    expect(decode('I16', Int16Array.of(-32_768, 5), 2).data).toEqual(Int32Array.of(-32_768, 5));
    expect(decode('I64', BigInt64Array.of(-2_147_483_648n, 2_147_483_647n), 2).data).toEqual(
      Int32Array.of(-2_147_483_648, 2_147_483_647),
    );
  });

  it('keeps integers big when one does not fit int32', () => {
    expect(decode('I64', BigInt64Array.of(0n, 2_147_483_648n), 2)).toMatchObject({
      dtype: 'int64',
      data: BigInt64Array.of(0n, 2_147_483_648n),
    });
    expect(decode('I64', BigInt64Array.of(-2_147_483_649n), 1).dtype).toBe('int64');
    expect(decode('U64', BigUint64Array.of(2n ** 64n - 1n), 1)).toMatchObject({
      dtype: 'uint64',
      data: BigUint64Array.of(2n ** 64n - 1n),
    });
    expect(decode('U32', Uint32Array.of(1, 2 ** 31), 2)).toMatchObject({
      dtype: 'int64',
      data: BigInt64Array.of(1n, 2n ** 31n),
    });
    expect(decode('U32', Uint32Array.of(1, 2), 2)).toMatchObject({
      dtype: 'int32',
      data: Int32Array.of(1, 2),
    });
  });

  it('narrows F64 only when the loss is allowed', () => {
    const packed = bytesOf(Float64Array.of(0.1, -2));
    expect(() => decodeTensor(packed, { dtype: 'F64', shape: [2] })).toThrow(
      'pass allowLossy: true to round',
    );
    expect(decodeTensor(packed, { dtype: 'F64', shape: [2] }, { allowLossy: true }).data).toEqual(
      floats(0.1, -2),
    );
  });

  it('takes booleans of 0 and 1 only', () => {
    expect(decode('BOOL', Uint8Array.of(0, 1, 1), 3)).toMatchObject({
      dtype: 'bool',
      data: Uint8Array.of(0, 1, 1),
    });
    expect(() => decode('BOOL', Uint8Array.of(1, 2), 2)).toThrow(
      'BOOL bytes must be 0 or 1, got 2 at element 1',
    );
  });

  it('copies: the result does not change with its source, whatever the alignment', () => {
    const source = new Uint8Array(9);
    source.set(bytesOf(floats(1, 2)), 1);
    const value = decodeTensor(source.subarray(1), { dtype: 'F32', shape: [2] });
    source.fill(0xff);
    expect(value).toEqual({ dtype: 'float32', stored: 'F32', shape: [2], data: floats(1, 2) });
  });

  it('refuses a wrong number of bytes', () => {
    expect(() => decodeTensor(new Uint8Array(3), { dtype: 'F32', shape: [] })).toThrow(
      'F32 [] must have 4 bytes, got 3',
    );
    expect(() => decodeTensor(new Uint8Array(2), { dtype: 'F4', shape: [3] })).toThrow(
      'safe size in whole bytes',
    );
  });

  it('allocates one buffer, of the larger of packed and decoded size', () => {
    const sizes = (dtype: DType, count: number): number[] => {
      const asked: number[] = [];
      const allocate = (bytes: number): ArrayBuffer => {
        asked.push(bytes);
        return new ArrayBuffer(bytes);
      };
      planDecode({ dtype, shape: [count], subject: 'x' }, { allocate, allowLossy: true }).finish();
      return asked;
    };
    expect(sizes('BF16', 10)).toEqual([40]);
    expect(sizes('F4', 10)).toEqual([40]);
    expect(sizes('I64', 10)).toEqual([80]);
    expect(sizes('BOOL', 10)).toEqual([10]);
    expect(sizes('F32', 0)).toEqual([0]);
  });
});

describe('encodeTensor', () => {
  it('gives back what it encoded, for every type it encodes', () => {
    const anyFloat = fc.float32Array({ noNaN: true, maxLength: 9 });
    const anyInt = fc.int32Array({ maxLength: 9 });
    fc.assert(
      fc.property(
        anyFloat,
        anyInt,
        fc.bigInt64Array({ maxLength: 5 }),
        fc.bigUint64Array({ maxLength: 5 }),
        (f, i, b, u) => {
          expect(decode('F32', encode(f, 'F32', f.length), f.length).data).toEqual(f);
          expect(decode('I32', encode(i, 'I32', i.length), i.length).data).toEqual(i);
          expect(decode('I64', encode(i, 'I64', i.length), i.length).data).toEqual(i);
          expect([...decode('I64', encode(b, 'I64', b.length), b.length).data].map(BigInt)).toEqual([...b]);
          expect([...decode('U64', encode(u, 'U64', u.length), u.length).data].map(BigInt)).toEqual([...u]);
          const pairs = Float32Array.from([...f, ...f]);
          expect(decode('C64', encode(pairs, 'C64', f.length), f.length)).toMatchObject({
            dtype: 'complex64',
            data: pairs,
          });
        },
      ),
    );
    expect(decode('BOOL', encode(Int32Array.of(0, 1), 'BOOL', 2), 2).data).toEqual(Uint8Array.of(0, 1));
    expect(decode('U8', encode(Uint8Array.of(7, 255), 'U8', 2), 2).data).toEqual(Int32Array.of(7, 255));
  });

  it.each<[EncodableData, DType, string]>([
    [Int32Array.of(1, 256), 'U8', 'integers in [0, 255], got 256 at element 1'],
    [Int32Array.of(-1), 'U8', 'got -1 at element 0'],
    [Uint8Array.of(2), 'BOOL', 'integers in [0, 1], got 2 at element 0'],
    [floats(1), 'I32', 'must be of a kind that I32 is encoded from, got Float32Array'],
    [Int32Array.of(1), 'F32', 'got Int32Array'],
    [floats(1), 'F8_E4M3', 'pass the packed bytes as { bytes }'],
    [BigInt64Array.of(1n), 'U64', 'got BigInt64Array'],
  ])('refuses %s as %s', (data, dtype, message) => {
    expect(() => encode(data, dtype, data.length)).toThrow(message);
  });

  it('refuses a wrong number of elements', () => {
    expect(() => encodeTensor(floats(1, 2), { dtype: 'F32', shape: [3], subject: 'w' })).toThrow(
      'w: F32 [3] must have 12 bytes, got 8',
    );
  });

  it('respects views into larger buffers', () => {
    const whole = floats(9, 1, 2, 9);
    expect([...decode('BF16', encode(whole.subarray(1, 3), 'BF16', 2), 2).data]).toEqual([1, 2]);
    expect([...decode('F16', encode(whole.subarray(1, 3), 'F16', 2), 2).data]).toEqual([1, 2]);
    expect(encode(whole.subarray(1, 3), 'F32', 2)).toEqual(bytesOf(floats(1, 2)));
  });
});
