/**
 * @file CRC-32C (Castagnoli, RFC 3720 appendix B.4), and its masked form, as TFRecord files have it: a checksum of
 * bytes that hold checksums is weak, so it is rotated and shifted.
 */

/** The Castagnoli polynomial, bits reversed. */
const polynomial = 0x82f6_3b78;
const maskDelta = 0xa282_ead8;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1) remainder = (remainder >>> 1) ^ (remainder & 1 ? polynomial : 0);
  return remainder >>> 0;
});

/** CRC-32C of bytes, unsigned. */
export function crc32c(bytes: Uint8Array): number {
  let remainder = 0xffff_ffff;
  for (let at = 0; at < bytes.length; at += 1) {
    remainder = table[(remainder ^ bytes[at]!) & 0xff]! ^ (remainder >>> 8);
  }
  return (remainder ^ 0xffff_ffff) >>> 0;
}

/** The masked CRC-32C of bytes, unsigned. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const checksum = crc32c(bytes);
  return (((checksum >>> 15) | (checksum << 17)) + maskDelta) >>> 0;
}
