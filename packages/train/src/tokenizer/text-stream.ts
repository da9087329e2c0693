/**
 * @file Ids to text, one at a time: a character whose bytes are spread over several tokens appears when its last
 * byte has come.
 */
import type { Tokenizer } from './tokenizer.ts';

/** Collects ids and gives the text that is complete. */
export interface TextStream {
  /** The text that this id completes; often empty inside a multi-byte character. */
  push(id: number): string;
  /** What is left, bytes that never became a character as U+FFFD. The stream is empty afterwards. */
  flush(): string;
}

/** A stream for one text. Special tokens give no text. */
export function createTextStream(tokenizer: Tokenizer): TextStream {
  return tokenizer.bytesOf(tokenizer.endOfTextId) === undefined
    ? streamByDecoding(tokenizer)
    : streamBytes(tokenizer);
}

function streamBytes(tokenizer: Tokenizer): TextStream {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (id) => decoder.decode(tokenizer.bytesOf(id) ?? new Uint8Array(0), { stream: true }),
    flush: () => decoder.decode(),
  };
}

/** For tokenizers whose text depends on neighbours: decodes a short tail again and gives what was added to it. */
function streamByDecoding(tokenizer: Tokenizer): TextStream {
  let tail: number[] = [];
  let shown = '';
  const advance = (isLast: boolean): string => {
    const text = tokenizer.decode(tail, { skipSpecialTokens: true });
    if (!isLast && text.endsWith('\uFFFD')) return '';
    const added = text.slice(shown.length);
    const isLong = tail.length > 16;
    if (isLong) tail = tail.slice(-4);
    shown = isLong ? tokenizer.decode(tail, { skipSpecialTokens: true }) : text;
    return added;
  };
  return {
    push(id) {
      tail.push(id);
      return advance(false);
    },
    flush() {
      const rest = advance(true);
      tail = [];
      shown = '';
      return rest;
    },
  };
}
