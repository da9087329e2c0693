import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { crc32c, maskedCrc32c } from './crc32c.kernel.ts';

/** Bit by bit, from the definition: the remainder of the message times x³² by the Castagnoli polynomial. */
function crcByDivision(bytes: Uint8Array): number {
  const bits = [...bytes].flatMap((byte) => Array.from({ length: 8 }, (_, bit) => (byte >> bit) & 1));
  const padded = [...bits, ...Array.from({ length: 32 }, () => 0)].map((bit, at) =>
    at < 32 ? bit ^ 1 : bit,
  );
  const polynomial = [...(0x1_1edc_6f41).toString(2)].map(Number);
  for (let at = 0; at < padded.length - 32; at += 1) {
    if (padded[at] === 1) polynomial.forEach((bit, offset) => (padded[at + offset]! ^= bit));
  }
  const remainder = padded.slice(-32).map((bit) => bit ^ 1);
  return parseInt(remainder.toReversed().join(''), 2);
}

const ascending = Uint8Array.from({ length: 32 }, (_, at) => at);
const readCommand =
  '01c00000000000000000000000000000140000000000040000000014000000182800000000000000' + '0200000000000000';

describe('CRC-32C', () => {
  it.each([
    ['32 bytes of zeros', new Uint8Array(32), 0x8a91_36aa],
    ['32 bytes of ones', new Uint8Array(32).fill(255), 0x62a8_ab43],
    ['32 ascending bytes', ascending, 0x46dd_794e],
    ['32 descending bytes', ascending.toReversed(), 0x113f_db5c],
    ['an iSCSI read command', Uint8Array.from(Buffer.from(readCommand, 'hex')), 0xd996_3a56],
  ])('of %s is that of RFC 3720', (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });
  it('is the remainder of a division of polynomials', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 40 }), (bytes) => {
        expect(crc32c(bytes)).toBe(crcByDivision(bytes));
      }),
    );
  });
  it('is masked as TFRecord files have it: rotated right by 15, and a constant added', () => {
    // The length 24 as a record begins with it, taken from a file that TensorFlow wrote.
    const length = Uint8Array.from([24, 0, 0, 0, 0, 0, 0, 0]);
    expect(maskedCrc32c(length)).toBe(Buffer.from('a37f4b22', 'hex').readUInt32LE());
  });
});
