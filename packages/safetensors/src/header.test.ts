import { isMoebiusError, type MoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { isBadFile, parseHeader, parseHeaderLength } from './header.ts';

/** A file of this header text (not padded) and this many zero bytes of data. */
function file(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.byteLength + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.byteLength), true);
  bytes.set(text, 8);
  return bytes;
}

const parse = (bytes: Uint8Array): ReturnType<typeof parseHeader> =>
  parseHeader(bytes, bytes.byteLength, { subject: 'x' });

function failure(bytes: Uint8Array, options: Parameters<typeof parseHeader>[2] = {}): MoebiusError {
  try {
    parseHeader(bytes, bytes.byteLength, options);
  } catch (error) {
    if (isBadFile(error)) return error as MoebiusError;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const tensor = (dtype: string, shape: string, begin: number | string, end: number | string): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

describe('parseHeader', () => {
  it('reads tensors in the order of their bytes, whatever the order of the keys', () => {
    const header = parse(
      file(
        `{"b":${tensor('U8', '[3]', 4, 7)},"__metadata__":{"format":"pt","":"empty key"},"a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}   `,
        7,
      ),
    );
    expect([...header.tensors.keys()]).toEqual(['a', 'b']);
    expect(header.tensors.get('b')).toEqual({ name: 'b', dtype: 'U8', shape: [3], begin: 4, end: 7 });
    expect([...header.metadata]).toEqual([
      ['format', 'pt'],
      ['', 'empty key'],
    ]);
  });

  it('accepts no tensors, empty tensors anywhere, and JSON white space between tokens', () => {
    expect(parse(file('{}')).tensors.size).toBe(0);
    const empty = `{ "e" :\t${tensor('F32', '[0, 99999999]', 4, 4)} ,\r\n"f":${tensor('F32', '[1]', 0, 4)},"g":${tensor('BOOL', '[0]', 0, 0)} }`;
    expect([...parse(file(empty, 4)).tensors.keys()]).toEqual(['g', 'f', 'e']);
  });

  it('treats __proto__, constructor and paths as ordinary names', () => {
    const names = ['__proto__', 'constructor', '../../etc/passwd', 'a/b', ''];
    const entries = names.map((name, at) => `${JSON.stringify(name)}:${tensor('U8', '[1]', at, at + 1)}`);
    const header = parse(file(`{${entries.join(',')},"__metadata__":{"__proto__":"x"}}`, names.length));
    expect([...header.tensors.keys()]).toEqual(names);
    expect(header.metadata.get('__proto__')).toBe('x');
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });

  it('does not need aligned data', () => {
    expect(
      parse(file(`{"a":${tensor('U8', '[1]', 0, 1)},"b":${tensor('F32', '[1]', 1, 5)}}`, 5)).tensors.size,
    ).toBe(2);
  });
});

describe('parseHeader refuses hostile files', () => {
  const one = (dtype: string, shape: string, begin: number | string, end: number | string): string =>
    `{"a":${tensor(dtype, shape, begin, end)}}`;
  const bytesOf = (...values: number[]): Uint8Array => Uint8Array.from(values);

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', bytesOf(), /must have at least 8 bytes, got 0/],
    ['a file of seven bytes', bytesOf(1, 2, 3, 4, 5, 6, 7), /at least 8 bytes, got 7/],
    [
      'a length longer than the file',
      bytesOf(9, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d),
      /must fit the file of 10 bytes, got a length of 9/,
    ],
    [
      'a length of 2^64 - 1',
      bytesOf(255, 255, 255, 255, 255, 255, 255, 255, 0x7b),
      /got a length of 18446744073709551615/,
    ],
    ['a length of 2^53', bytesOf(0, 0, 0, 0, 0, 0, 32, 0, 0x7b), /got a length of 9007199254740992/],
    ['an empty header', file(''), /must begin with "\{", got an empty header/],
    ['leading white space', file(' {}'), /must begin with "\{", got byte 32/],
    ['a byte order mark', file('\ufeff{}'), /must begin with "\{", got byte 239/],
    ['an array', file('[]'), /must begin with/],
    ['malformed UTF-8', file(bytesOf(0x7b, 0x22, 0xff, 0x22, 0x7d)), /valid UTF-8/],
    ['overlong UTF-8', file(bytesOf(0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x7d)), /valid UTF-8/],
    ['a cut header', file('{"a":'), /must have an object, got the end/],
    ['a trailing comma', file('{},'), /must end after its object/],
    ['a second object', file('{}{}'), /must end after its object/],
    ['padding with zeros', file('{}\0\0'), /must end after its object/],
    [
      'a duplicate tensor',
      file(`{"a":${tensor('U8', '[1]', 0, 1)},"a":${tensor('U8', '[1]', 0, 1)}}`, 1),
      /keys must be unique, got "a" twice/,
    ],
    [
      'a duplicate written with an escape',
      file(`{"a":${tensor('U8', '[1]', 0, 1)},"\\u0061":${tensor('U8', '[1]', 0, 1)}}`, 1),
      /unique/,
    ],
    [
      'a duplicate field',
      file('{"a":{"dtype":"U8","dtype":"I8","shape":[],"data_offsets":[0,1]}}', 1),
      /unique, got "dtype"/,
    ],
    ['a duplicate metadata key', file('{"__metadata__":{"a":"","a":""}}'), /unique/],
    ['two metadata objects', file('{"__metadata__":{},"__metadata__":{}}'), /unique/],
    ['metadata that is no string', file('{"__metadata__":{"a":1}}'), /must have a string/],
    ['nested metadata', file('{"__metadata__":{"a":{}}}'), /must have a string/],
    ['deep nesting', file(`{"a":${'['.repeat(100_000)}`), /must have an object/],
    ['deep nesting in a shape', file(`{"a":{"shape":${'['.repeat(100_000)}`), /non-negative safe integer/],
    [
      'an unknown field',
      file('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}}', 1),
      /dtype, shape and data_offsets only, got "x"/,
    ],
    ['missing fields', file('{"a":{"dtype":"U8"}}'), /got no shape, no data_offsets/],
    [
      'an unknown type',
      file(one('F128', '[1]', 0, 16), 16),
      /dtype must be one of BOOL, .*got "F128" at character 20/,
    ],
    ['a type in small letters', file(one('f32', '[1]', 0, 4), 4), /got "f32" \(did you mean F32\?\)/],
    ['a negative dimension', file(one('U8', '[-1]', 0, 1), 1), /non-negative safe integer, got "-1/],
    ['a fractional dimension', file(one('U8', '[1.0]', 0, 1), 1), /safe integer/],
    ['an exponent', file(one('U8', '[1e0]', 0, 1), 1), /safe integer/],
    ['a leading zero', file(one('U8', '[01]', 0, 1), 1), /safe integer/],
    ['a dimension as text', file(one('U8', '["1"]', 0, 1), 1), /safe integer/],
    ['null as a dimension', file(one('U8', '[null]', 0, 1), 1), /safe integer/],
    ['a dimension of 2^53', file(one('U8', '[9007199254740992]', 0, 1), 1), /safe integer/],
    ['a dimension of 10^400', file(one('U8', `[1${'0'.repeat(400)}]`, 0, 1), 1), /safe integer/],
    ['a product of 2^63', file(one('F32', '[2147483648,4294967296]', 0, 4), 4), /safe size in whole bytes/],
    [
      'a product of 2^64, zero in wrapping arithmetic',
      file(one('F32', '[4294967296,4294967296]', 0, 0)),
      /safe size/,
    ],
    ['bits beyond 2^53', file(one('F64', '[1125899906842624]', 0, 8), 8), /safe size/],
    ['half a byte', file(one('F4', '[3]', 0, 2), 2), /safe size in whole bytes, got F4 \[3\]/],
    [
      '65 dimensions',
      file(one('U8', `[${Array.from({ length: 65 }, () => 1).join()}]`, 0, 1), 1),
      /at most 64 elements/,
    ],
    [
      'one offset',
      file('{"a":{"dtype":"U8","shape":[],"data_offsets":[0]}}', 1),
      /\[begin, end\] in order, got \[0\]/,
    ],
    [
      'three offsets',
      file('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1,2]}}', 1),
      /at most 2 elements/,
    ],
    ['offsets out of order', file(one('U8', '[1]', 1, 0), 1), /in order, got \[1, 0\]/],
    ['a size that does not match', file(one('F32', '[2]', 0, 4), 4), /F32 \[2\] must span 8 bytes, got 4/],
    ['data that does not begin at 0', file(one('U8', '[1]', 1, 2), 2), /begin at byte 0 .* got 1: a gap/],
    [
      'a gap',
      file(`{"a":${tensor('U8', '[1]', 0, 1)},"b":${tensor('U8', '[1]', 2, 3)}}`, 3),
      /"b" must begin at byte 1 .* a gap/,
    ],
    [
      'an overlap',
      file(`{"a":${tensor('U8', '[2]', 0, 2)},"b":${tensor('U8', '[2]', 1, 3)}}`, 3),
      /"b" must begin at byte 2 .* an overlap/,
    ],
    [
      'one range used twice',
      file(`{"a":${tensor('U8', '[2]', 0, 2)},"b":${tensor('U8', '[2]', 0, 2)}}`, 2),
      /an overlap/,
    ],
    [
      'an empty tensor inside another',
      file(`{"a":${tensor('U8', '[2]', 0, 2)},"b":${tensor('U8', '[0]', 1, 1)}}`, 2),
      /an overlap/,
    ],
    ['trailing bytes', file(one('U8', '[1]', 0, 1), 2), /end with the file, .* got 1: 1 trailing bytes/],
    ['bytes without tensors', file('{}', 1), /1 trailing bytes/],
    ['data cut short', file(one('U8', '[9]', 0, 9), 8), /cut short/],
    ['a control character in a name', file('{"a\n":1}'), /free of control characters/],
    ['an open string', file('{"a'), /must be closed/],
    ['a lone surrogate', file('{"\\ud800":1}'), /lone surrogate/],
    ['an unknown escape', file('{"\\x":1}'), /known escape/],
    ['a short escape', file('{"\\u00"'), /four hexadecimal digits/],
    ['single quotes', file("{'a':1}"), /must have a string/],
    ['a comment', file('{/**/}'), /must have a string/],
  ])('%s', (_, bytes, message) => {
    expect(failure(bytes).message).toMatch(message);
  });

  it('a header over the limit, before it is read', () => {
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setBigUint64(0, 25_000_001n, true);
    try {
      parseHeaderLength(prefix, 1e12);
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'limit')).toBe(true);
      expect(String(error)).toContain('at most 25000000 bytes, got 25000001');
    }
    expect(failure(file('{}    '), { limits: { headerBytes: 5 } }).code).toBe('limit');
  });

  it('more tensors than the limit', () => {
    const bytes = file(`{"a":${tensor('U8', '[0]', 0, 0)},"b":${tensor('U8', '[0]', 0, 0)}}`);
    expect(failure(bytes, { limits: { tensors: 1 } }).message).toContain('at most 1 tensors');
    expect(failure(bytes, { limits: { tensors: 1 } }).code).toBe('limit');
  });

  it('fewer bytes than the header has', () => {
    const bytes = file('{}   ', 0);
    expect(() => parseHeader(bytes.subarray(0, 10), bytes.byteLength)).toThrow(
      'must be given all 13 bytes of the header',
    );
  });
});
