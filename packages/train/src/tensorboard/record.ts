/**
 * @file One record of a TFRecord file: `uint64 length, uint32 masked CRC of length, bytes, uint32 masked CRC of bytes`,
 * little-endian. A record that was cut off fails its checksum, so readers stop before it.
 */
import { maskedCrc32c } from './crc32c.kernel.ts';

const headerBytes = 12;
const footerBytes = 4;

/** A record around bytes; a new array. */
export function encodeRecord(content: Uint8Array): Uint8Array {
  const record = new Uint8Array(headerBytes + content.length + footerBytes);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(content.length), true);
  view.setUint32(8, maskedCrc32c(record.subarray(0, 8)), true);
  record.set(content, headerBytes);
  view.setUint32(headerBytes + content.length, maskedCrc32c(content), true);
  return record;
}
