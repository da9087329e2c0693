/**
 * @file Seeded random numbers that are the same everywhere.
 *
 * A generator is a *key* (64 bits), a *stream* (64 bits) and a *position* (words drawn). Word n is word `n mod 4` of
 * Philox4x32-10 at counter `(floor(n / 4), stream)`: no hidden state, so a position can be saved, restored and
 * jumped to at no cost, and forks with different labels never meet. No generator is global.
 */
import { MoebiusError } from './errors.ts';
import {
  digestWords,
  fillNormalInto,
  fillUniformInto,
  normalOfWord,
  philoxInto,
  shuffleInto,
} from './philox.kernel.ts';

/** What a generator can be made from. Different seeds, and different kinds of seed, give unrelated streams. */
export type RngSeed = number | string | readonly number[];

/** Everything there is to a generator; plain and serializable. */
export interface RngState {
  /** Names the algorithm, so that a saved state is never read by another one. */
  readonly algorithm: 'philox4x32-10';
  /** Two uint32. */
  readonly key: readonly [number, number];
  /** Two uint32. */
  readonly stream: readonly [number, number];
  /** Words drawn so far, a safe integer. */
  readonly position: number;
}

/** A seeded generator. Every draw advances it; {@link Rng.fork} and {@link Rng.state} do not. */
export interface Rng {
  /** The next 32 bits, in [0, 2^32). One word. */
  uint32(): number;
  /** In [0, 1) with 53 bits. Two words. */
  uniform(): number;
  /** A standard normal deviate of 32-bit resolution, |z| < 6.4. One word. */
  normal(): number;
  /** An unbiased integer in [0, below); `below` at most 2^53 - 1. One word (two from 2^32 on), more on rejection. */
  integer(below: number): number;
  /** Shuffles in place, every permutation equally likely. */
  shuffle(values: Int32Array): void;
  /**
   * A generator of its own for `label`, derived from this one's key and stream but not from its position: the same
   * label gives the same generator however much was drawn, and drawing from either never changes the other.
   */
  fork(label: string | number): Rng;
  /** The state to continue from, for {@link restoreRng}. */
  state(): RngState;
  /** Fills `out` with normal deviates; equals repeated `mean + standardDeviation * normal()`, rounded to float32. */
  fillNormal(
    out: Float32Array,
    options?: { readonly mean?: number; readonly standardDeviation?: number },
  ): void;
  /** Fills `out` with uniform values in [low, high), 24 bits each, one word each. */
  fillUniform(out: Float32Array, options?: { readonly low?: number; readonly high?: number }): void;
}

/**
 * Makes a generator.
 *
 * @param seed - a finite number, a string, or a list of finite numbers
 * @throws `configuration` when a number of the seed is not finite.
 * @example
 * ```ts
 * const rng = createRng(42);
 * const initialisation = rng.fork('init');
 * const weights = new Float32Array(1024);
 * initialisation.fillNormal(weights, { standardDeviation: 0.02 });
 * ```
 */
export function createRng(seed: RngSeed): Rng {
  return fromDigest(digestWords(Uint32Array.from(seedWords(seed))));
}

/**
 * Continues a generator from a saved state.
 *
 * @throws `data` when the state is not one that {@link Rng.state} returned.
 */
export function restoreRng(state: RngState): Rng {
  const words: readonly unknown[] = [...asList(state?.key), ...asList(state?.stream)];
  const isWord = (value: unknown): boolean =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffffffff;
  const isValid =
    state?.algorithm === 'philox4x32-10' &&
    words.length === 4 &&
    words.every(isWord) &&
    Number.isSafeInteger(state.position) &&
    state.position >= 0;
  if (!isValid) {
    throw new MoebiusError({
      code: 'data',
      message: `rng state: must be { algorithm: 'philox4x32-10', key, stream, position }, got ${JSON.stringify(state)} (save rng.state() as it is)`,
    });
  }
  return new PhiloxRng(state);
}

class PhiloxRng implements Rng {
  readonly #key: Uint32Array;
  readonly #stream: readonly [number, number];
  readonly #counter: Uint32Array;
  readonly #block: Uint32Array = new Uint32Array(4);
  #blockIndex = -1;
  #position: number;

  constructor(state: RngState) {
    this.#key = Uint32Array.from(state.key);
    this.#stream = [state.stream[0], state.stream[1]];
    this.#counter = new Uint32Array([0, 0, ...state.stream]);
    this.#position = state.position;
  }

  uint32(): number {
    const index = Math.floor(this.#position / 4);
    if (index !== this.#blockIndex) {
      this.#counter[0] = index >>> 0;
      this.#counter[1] = Math.floor(index / 4_294_967_296);
      philoxInto(this.#block, this.#counter, this.#key);
      this.#blockIndex = index;
    }
    const word = this.#block[this.#position - index * 4] as number;
    this.#position += 1;
    return word;
  }

  uniform(): number {
    return this.#bits53() / 9_007_199_254_740_992;
  }

  normal(): number {
    return normalOfWord(this.uint32());
  }

  integer(below: number): number {
    if (!Number.isSafeInteger(below) || below < 1) {
      throw new MoebiusError({
        code: 'configuration',
        message: `rng.integer: below must be an integer in [1, 2^53 - 1], got ${below}`,
        details: { below: String(below) },
      });
    }
    const range = below <= 4_294_967_296 ? 4_294_967_296 : 9_007_199_254_740_992;
    const limit = range - (range % below);
    for (;;) {
      const draw = range === 4_294_967_296 ? this.uint32() : this.#bits53();
      if (draw < limit) return draw % below;
    }
  }

  shuffle(values: Int32Array): void {
    shuffleInto(values, (bound) => this.integer(bound));
  }

  fork(label: string | number): Rng {
    return fromDigest(
      digestWords(Uint32Array.from([0x666f726b, ...this.#key, ...this.#stream, ...seedWords(label)])),
    );
  }

  state(): RngState {
    const [key0 = 0, key1 = 0] = this.#key;
    return {
      algorithm: 'philox4x32-10',
      key: [key0, key1],
      stream: [this.#stream[0], this.#stream[1]],
      position: this.#position,
    };
  }

  fillNormal(
    out: Float32Array,
    options: { readonly mean?: number; readonly standardDeviation?: number } = {},
  ): void {
    const { mean = 0, standardDeviation = 1 } = options;
    fillNormalInto(out, () => this.uint32(), { mean, standardDeviation });
  }

  fillUniform(out: Float32Array, options: { readonly low?: number; readonly high?: number } = {}): void {
    const { low = 0, high = 1 } = options;
    fillUniformInto(out, () => this.uint32(), { low, high });
  }

  #bits53(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return high * 67_108_864 + low;
  }
}

function fromDigest(digest: Uint32Array): Rng {
  const [key0 = 0, key1 = 0, stream0 = 0, stream1 = 0] = digest;
  return new PhiloxRng({
    algorithm: 'philox4x32-10',
    key: [key0, key1],
    stream: [stream0, stream1],
    position: 0,
  });
}

/** The words of a seed: a tag of its kind, then its exact content. */
function seedWords(seed: RngSeed): number[] {
  if (typeof seed === 'number') return [1, ...numberWords(seed)];
  if (typeof seed === 'string')
    return [2, ...Array.from({ length: seed.length }, (_, at) => seed.charCodeAt(at))];
  return [3, ...seed.flatMap(numberWords)];
}

function numberWords(value: number): number[] {
  if (!Number.isFinite(value)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `rng seed: must be finite numbers or a string, got ${value} (pass an integer)`,
      details: { value: String(value) },
    });
  }
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value === 0 ? 0 : value);
  return [view.getUint32(0), view.getUint32(4)];
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
