/**
 * @file What is known about a batch of tokens besides their hidden rows.
 *
 * Letters: `T` tokens, `B` sequences.
 */

/** Which pass tokens are in. */
export type RouterPhase = 'train' | 'evaluate' | 'prefill' | 'decode';

/** Facts about the tokens of one call, all optional: a router or a capacity policy reads those it has a use for. */
export interface TokenContext {
  /** Layer index: for messages, settings by layer, and random streams. */
  readonly layer?: number;
  /** Uint8Array `[T]`, 0 leaves a token unrouted (padding). */
  readonly mask?: Uint8Array;
  /** Step of training or generation, for random streams; default 0. */
  readonly step?: number;
  /** Which pass this is; default `evaluate`. */
  readonly phase?: RouterPhase;
  /** Sequences `B` of equal length, one after another. */
  readonly sequences?: number;
  /** Int32Array `[T]`: a higher class is protected longer when pairs must be dropped. Absent: all are equal. */
  readonly tokenClass?: Int32Array;
  /** Int32Array `[T]`: domain, task or language of each token, from 0, where a caller knows it. */
  readonly domain?: Int32Array;
  /** Int32Array `[T]`: device that owns each token. Absent: equal runs of consecutive tokens. */
  readonly deviceOf?: Int32Array;
}
