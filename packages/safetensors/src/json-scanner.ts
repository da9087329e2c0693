/**
 * @file A strict JSON scanner that is told what to expect.
 *
 * `JSON.parse` keeps the last of two equal keys, builds whatever a hostile text asks for, and gives `__proto__` a
 * meaning. This scanner fails at the first token that the caller did not ask for, so that nothing is allocated for
 * it, and keys go to a `Map`.
 */
import { type ErrorCode, MoebiusError } from '@moebius/core';

/** Depth at which skipped values are refused: they carry no meaning, and nested ones would only cost stack. */
const SKIPPED_DEPTH = 16;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/** Reads one JSON text, front to back. Positions in errors are character offsets in the text. */
export class JsonScanner {
  readonly #text: string;
  readonly #subject: string;
  #at = 0;

  constructor(text: string, subject: string) {
    this.#text = text;
    this.#subject = subject;
  }

  /** Reads an object; `visit` must read each value. Keys are unique. */
  object(visit: (key: string) => void): void {
    this.#token('{', 'an object');
    const seen = new Set<string>();
    if (this.#next('}')) return;
    do {
      const key = this.string();
      if (seen.has(key)) throw this.fault('keys must be unique', `${JSON.stringify(key)} twice`);
      seen.add(key);
      this.#token(':', 'a colon');
      visit(key);
    } while (this.#next(','));
    this.#token('}', 'the end of the object');
  }

  /** Reads an array of at most `limit` elements; `visit` must read each. `code` is that of the error for more. */
  array(limit: number, visit: () => void, code: ErrorCode = 'limit'): void {
    this.#token('[', 'an array');
    if (this.#next(']')) return;
    let count = 0;
    do {
      count += 1;
      if (count > limit) throw this.fault(`an array must have at most ${limit} elements`, 'more', code);
      visit();
    } while (this.#next(','));
    this.#token(']', 'the end of the array');
  }

  /** Reads a non-negative safe integer written in plain digits. */
  integer(): number {
    const start = this.#skipSpace();
    let end = start;
    while (isDigit(this.#text.charCodeAt(end))) end += 1;
    const digits = this.#text.slice(start, Math.min(end, start + 17));
    const value = Number(digits);
    const isPlain =
      digits !== '' && (digits === '0' || !digits.startsWith('0')) && !/[.eE]/.test(this.#text.charAt(end));
    if (!isPlain || !Number.isSafeInteger(value) || end - start > 16) {
      throw this.fault('must be a non-negative safe integer', this.#excerpt());
    }
    this.#at = end;
    return value;
  }

  /** Reads a string without control characters or lone surrogates. */
  string(): string {
    this.#token('"', 'a string');
    let value = '';
    let start = this.#at;
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code === 0x22) break;
      if (Number.isNaN(code) || code < 0x20)
        throw this.fault('a string must be closed and free of control characters', this.#excerpt());
      if (code === 0x5c) {
        value += this.#text.slice(start, this.#at) + this.#escape();
        start = this.#at;
      } else this.#at += 1;
    }
    value += this.#text.slice(start, this.#at);
    this.#at += 1;
    if (/\p{Surrogate}/u.test(value)) throw this.fault('a string must be valid Unicode', 'a lone surrogate');
    return value;
  }

  /** Reads a value of any kind, checks its form and drops it. */
  skip(depth: number = 0): void {
    if (depth > SKIPPED_DEPTH) throw this.fault(`must nest at most ${SKIPPED_DEPTH} deep`, 'more', 'limit');
    const first = this.#text[this.#skipSpace()];
    if (first === '{') return this.object(() => this.skip(depth + 1));
    if (first === '[') return this.array(Infinity, () => this.skip(depth + 1));
    if (first === '"') {
      this.string();
      return;
    }
    const word = ['true', 'false', 'null'].find((name) => this.#text.startsWith(name, this.#at));
    NUMBER.lastIndex = this.#at;
    const length = word?.length ?? NUMBER.exec(this.#text)?.[0].length;
    if (length === undefined) throw this.fault('must be a JSON value', this.#excerpt());
    this.#at += length;
  }

  /** Checks that nothing but white space is left. */
  end(): void {
    if (this.#skipSpace() < this.#text.length) throw this.fault('must end after its object', this.#excerpt());
  }

  /** An error at the current position. */
  fault(expectation: string, got: string, code: ErrorCode = 'format'): MoebiusError {
    return new MoebiusError({
      code,
      message: `${this.#subject}: ${expectation}, got ${got} at character ${this.#at}`,
      details: { subject: this.#subject, at: this.#at, got },
    });
  }

  #escape(): string {
    const letter = this.#text.charAt(this.#at + 1);
    if (letter === 'u') {
      const digits = this.#text.slice(this.#at + 2, this.#at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(digits))
        throw this.fault('an escape must have four hexadecimal digits', this.#excerpt());
      this.#at += 6;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const index = letter === '' ? -1 : '"\\/bfnrt'.indexOf(letter);
    if (index < 0) throw this.fault('must be a known escape', this.#excerpt());
    this.#at += 2;
    return '"\\/\b\f\n\r\t'.charAt(index);
  }

  #token(character: string, meaning: string): void {
    if (!this.#next(character)) throw this.fault(`must have ${meaning}`, this.#excerpt());
  }

  #next(character: string): boolean {
    if (this.#text[this.#skipSpace()] !== character) return false;
    this.#at += 1;
    return true;
  }

  #skipSpace(): number {
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at += 1;
    return this.#at;
  }

  #excerpt(): string {
    return this.#at >= this.#text.length
      ? 'the end'
      : JSON.stringify(this.#text.slice(this.#at, this.#at + 20));
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
