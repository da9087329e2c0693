/**
 * @file Experts by number: what a gate without anything to learn is made of.
 *
 * Letters: `T` tokens, `V` ids, `E` experts, `K` experts of a token.
 */
import type { Choice } from './stages.ts';

/** 32 well mixed bits of a list of integers: the same on every machine. */
export function mixBits(...numbers: readonly number[]): number {
  let hash = 0x9e37_79b9;
  for (const number of numbers) {
    hash = Math.imul(hash ^ number, 0x85eb_ca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}

/**
 * An expert for every id so that experts see nearly equally many tokens: ids in descending order of their frequency, each to the expert with
 * the least so far; ties go to the lowest id and expert.
 *
 * @param frequencies - `[V]`, at least 0
 * @param experts - `E`
 * @returns Int32Array `[V]`
 */
export function balancedTable(frequencies: ArrayLike<number>, experts: number): Int32Array {
  const order = Array.from({ length: frequencies.length }, (_, id) => id).toSorted(
    (a, b) => frequencies[b]! - frequencies[a]! || a - b,
  );
  const load = new Float64Array(experts);
  const table = new Int32Array(frequencies.length);
  for (const id of order) {
    let least = 0;
    for (let e = 1; e < experts; e += 1) if (load[e]! < load[least]!) least = e;
    table[id] = least;
    load[least]! += frequencies[id]!;
  }
  return table;
}

/** What {@link chooseEach} asks. */
export interface EachToken {
  /** `T`. */
  readonly tokens: number;
  /** Uint8Array `[T]`, 0 gets nothing. */
  readonly mask?: Uint8Array;
  /** Experts of one token, best first, none twice. */
  readonly expertsOf: (token: number) => readonly number[];
}

/** The choice of a rule for single tokens. Fresh. */
export function chooseEach({ tokens, mask, expertsOf }: EachToken): Choice {
  const tokenOffsets = new Int32Array(tokens + 1);
  const ids: number[] = [];
  for (let t = 0; t < tokens; t += 1) {
    if (mask?.[t] !== 0) for (const e of expertsOf(t)) ids.push(e);
    tokenOffsets[t + 1] = ids.length;
  }
  return { ids: Int32Array.from(ids), tokenOffsets };
}

/**
 * The expert of each of several hash functions, where two that agree are told apart: the later one moves on to the next free expert.
 *
 * @param hashes - `[K]`, any integers from 0; K at most E
 * @param experts - `E`
 */
export function distinctExperts(hashes: readonly number[], experts: number): number[] {
  const chosen: number[] = [];
  for (const hash of hashes) {
    let e = hash % experts;
    while (chosen.includes(e)) e = (e + 1) % experts;
    chosen.push(e);
  }
  return chosen;
}
