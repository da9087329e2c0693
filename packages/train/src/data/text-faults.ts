/** @file Signs in a text that it was decoded or exported badly. It is valid UTF-8 all the same. */

/** What was found in a text; counts of characters, or of places. */
export interface TextFaults {
  /** U+FFFD: something could not be decoded when the text was made. */
  readonly replacementCharacters: number;
  /** Control characters other than tab, line feed and carriage return. */
  readonly controlCharacters: number;
  /** U+FEFF inside the text: files joined without care. */
  readonly byteOrderMarks: number;
  /** Halves of surrogate pairs, which have no UTF-8. */
  readonly loneSurrogates: number;
  /** Places that look like UTF-8 read as Latin-1 or Windows-1252, such as `Ã©` for `é`. */
  readonly doubleEncoded: number;
  /** Lines that end with carriage return and line feed. */
  readonly windowsLineEnds: number;
}

const patterns: { readonly [name in keyof TextFaults]: RegExp } = {
  replacementCharacters: /\uFFFD/g,
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  controlCharacters: /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]/g,
  byteOrderMarks: /\uFEFF/g,
  loneSurrogates: /\p{Cs}/gu,
  doubleEncoded:
    /[\u00C2\u00C3][\u0080-\u00BF]|\u00E2[\u0080\u20AC][\u0090-\u00BF\u0152-\u0178\u02C6\u02DC\u2013-\u2122]/g,
  windowsLineEnds: /\r\n/g,
};

/** Counts the signs in a text. */
export function countTextFaults(text: string): TextFaults {
  const count = (pattern: RegExp): number => {
    let found = 0;
    for (const _ of text.matchAll(pattern)) found += 1;
    return found;
  };
  return {
    replacementCharacters: count(patterns.replacementCharacters),
    controlCharacters: count(patterns.controlCharacters),
    byteOrderMarks: count(patterns.byteOrderMarks),
    loneSurrogates: count(patterns.loneSurrogates),
    doubleEncoded: count(patterns.doubleEncoded),
    windowsLineEnds: count(patterns.windowsLineEnds),
  };
}
