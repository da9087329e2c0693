/**
 * @file Cutting text into words before byte-pair merging: the `ByteLevel` rule of GPT-2. Contractions, runs of
 * letters, of digits and of other signs, each with at most one leading space; runs of white space leave their last
 * space to the word that follows. The words of a text, joined, are the text.
 */

const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The words of a text, in order. */
export function splitWords(text: string): string[] {
  return text.match(wordPattern) ?? [];
}

/** How often each word occurs, over all texts; in order of first occurrence. */
export function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of splitWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}
