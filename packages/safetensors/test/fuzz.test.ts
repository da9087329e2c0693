import { createRng, isMoebiusError, type Rng } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { encodeSafetensors, parseSafetensors, type TensorSource } from '../src/index.ts';

/** Small files of every kind of tensor: what is mutated. */
const SEEDS: readonly Uint8Array[] = [
  encodeSafetensors([]),
  encodeSafetensors([{ name: 'w', dtype: 'F32', shape: [2, 3], data: new Float32Array(6) }]),
  encodeSafetensors(
    (
      [
        'BOOL',
        'F4',
        'F6_E2M3',
        'U8',
        'F8_E4M3',
        'BF16',
        'F16',
        'I32',
        'U32',
        'C64',
        'F64',
        'I64',
        'U64',
      ] as const
    ).map((dtype, at): TensorSource => {
      const bits = [8, 4, 6, 8, 8, 16, 16, 32, 32, 64, 64, 64, 64][at] ?? 0;
      return { name: `t${at}`, dtype, shape: [2, 4], bytes: new Uint8Array(bits) };
    }),
    { metadata: { format: 'pt', '__proto__ ': '"\\\n' } },
  ),
];

const FRAGMENTS = [
  '{', '}', '[', ']', ',', ':', '"', '\\', '0', '9', '-1', '1e9', '.', ' ', '\n', '\0', '[0,0]', '4294967296',
  '9007199254740993', '"a":', '"dtype"', '"F32"', '"shape"', '"data_offsets"', '"__metadata__"', '"__proto__"', 'null', '\ud800',
  '\\u0000', '{"a":', '[[', '18446744073709551616',
].map((text) => new TextEncoder().encode(text)); // prettier-ignore

/** One mutated file: bytes flipped, replaced, removed, inserted, repeated, or the length changed. */
function mutate(rng: Rng, seed: Uint8Array): Uint8Array {
  let bytes: Uint8Array = seed.slice();
  for (let changes = 1 + rng.integer(4); changes > 0; changes -= 1) {
    const at = rng.integer(bytes.byteLength + 1);
    const span = Math.min(rng.integer(9), bytes.byteLength - at);
    const before = bytes.subarray(0, at);
    const kind = rng.integer(7);
    if (kind === 0) bytes[at] = rng.integer(256);
    else if (kind === 1) bytes[at] = (bytes[at] ?? 0) ^ (1 << rng.integer(8));
    else if (kind === 2) bytes = Buffer.concat([before, bytes.subarray(at + span)]);
    else if (kind === 3)
      bytes = Buffer.concat([
        before,
        FRAGMENTS[rng.integer(FRAGMENTS.length)] ?? before,
        bytes.subarray(at + span),
      ]);
    else if (kind === 4) bytes = Buffer.concat([before, bytes.subarray(at, at + span), bytes.subarray(at)]);
    else if (kind === 5) bytes = bytes.slice(0, at);
    else if (bytes.byteLength >= 8)
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, rng.integer(bytes.byteLength + 9), true);
  }
  // Half of the files get a length that fits again, so that mutations reach the header's content.
  if (rng.integer(2) === 0 && bytes.byteLength >= 8) {
    const end = Buffer.from(bytes).lastIndexOf('}');
    if (end >= 8) new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(0, BigInt(end - 7), true);
  }
  return bytes;
}

describe('100,000 mutated files', () => {
  it('are read or refused with a Moebius error, and never allocate more than the file justifies', () => {
    const rng = createRng('safetensors fuzz');
    const codes = new Map<string, number>();
    let valid = 0;
    for (let round = 0; round < 100_000; round += 1) {
      const bytes = mutate(rng, SEEDS[rng.integer(SEEDS.length)] ?? new Uint8Array());
      let allocated = 0;
      const allocate = (size: number): ArrayBuffer => {
        allocated += size;
        return new ArrayBuffer(size);
      };
      try {
        const file = parseSafetensors(bytes, { allocate });
        if (allocated > 0) expect.unreachable('opening allocates nothing for tensors');
        valid += 1;
        for (const name of file.names()) file.readBytes(name);
        if (allocated > bytes.byteLength)
          expect.unreachable(`${allocated} bytes for a file of ${bytes.byteLength}`);
        allocated = 0;
        for (const name of file.names()) file.read(name, { allowLossy: true });
        // F4 widens most: 4 bits to 32.
        if (allocated > 8 * bytes.byteLength)
          expect.unreachable(`${allocated} decoded of ${bytes.byteLength}`);
      } catch (error) {
        if (!isMoebiusError(error))
          throw new Error(`round ${round}: ${Buffer.from(bytes).toString('latin1')}`, { cause: error });
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      }
    }
    expect([...codes.keys()].toSorted()).toEqual(['format']);
    // The mutations are neither all fatal nor all harmless.
    expect(valid).toBeGreaterThan(1000);
    expect(codes.get('format')).toBeGreaterThan(50_000);
  });
});
