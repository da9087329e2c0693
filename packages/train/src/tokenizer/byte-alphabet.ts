/**
 * @file The byte-level alphabet: every byte has a printable character, so that a vocabulary of byte strings can be
 * written as JSON text. Printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards. This is the
 * alphabet of GPT-2 and of every `ByteLevel` tokenizer.json.
 */

const characterOfByte: readonly string[] = makeAlphabet();
const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  characterOfByte.map((character, byte) => [character, byte]),
);

function makeAlphabet(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** The character that stands for a byte. */
export function byteCharacter(byte: number): string {
  return characterOfByte[byte] ?? '';
}

/** Bytes in the order of their characters' code points: the order of the first 256 entries of a vocabulary. */
export function bytesInAlphabetOrder(): number[] {
  return characterOfByte
    .map((character, byte) => ({ byte, code: character.charCodeAt(0) }))
    .sort((a, b) => a.code - b.code)
    .map(({ byte }) => byte);
}

/**
 * The bytes a vocabulary entry stands for.
 *
 * @returns undefined when a character is not of the alphabet (an added token such as `<｜eos｜>`)
 */
export function tokenBytes(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let index = 0; index < token.length; index++) {
    const byte = byteOfCharacter.get(token.charAt(index));
    if (byte === undefined) return undefined;
    bytes[index] = byte;
  }
  return bytes;
}
