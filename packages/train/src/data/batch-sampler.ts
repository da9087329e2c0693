/**
 * @file Training batches as a pure function of their position. A shard is cut into windows of `length` tokens; each
 * epoch starts at another offset and visits every window once, in an order drawn for that epoch. Row `r` of a run is
 * the same whatever came before, so that resuming needs one number.
 */
import { MoebiusError, createRng } from '@moebius/core';

import type { TokenShard } from './token-shard.ts';

/** Rows of ids and what follows each of them. Fresh arrays, caller owns: they may be uploaded without a copy. */
export interface TokenRows {
  /** int32 `[rows * length]`. */
  readonly ids: Int32Array;
  /** int32 `[rows * length]`: `targets[i]` follows `ids[i]`; -1 is not counted. */
  readonly targets: Int32Array;
  readonly rows: number;
  readonly length: number;
}

/** Gives the rows of a run by their position. */
export interface BatchSampler {
  /** Rows of one epoch. */
  readonly rowsPerEpoch: number;
  /** Rows `first`, `first + 1`, …; `count` of them. */
  rows(first: number, count: number): TokenRows;
}

/** What to sample. */
export interface BatchSamplerOptions {
  /** Tokens of a row, S. */
  readonly length: number;
  /** Another seed gives another order. */
  readonly seed: number;
}

/**
 * A sampler over a shard.
 *
 * @throws `data` when the shard is shorter than one row
 */
export function createBatchSampler(shard: TokenShard, options: BatchSamplerOptions): BatchSampler {
  const { tokens } = shard;
  const { length, seed } = options;
  const rowsPerEpoch = Math.floor((tokens.length - 1) / length);
  if (rowsPerEpoch < 1) {
    throw new MoebiusError({
      code: 'data',
      message: `training text: must have at least ${length + 1} tokens for a sequence of ${length}, got ${tokens.length} (add text, or shorten batch.length)`,
      details: { tokens: tokens.length, length },
    });
  }
  const rng = createRng([seed]).fork('batches');
  let known = { epoch: -1, offset: 0, order: new Int32Array(0) };
  const openEpoch = (epoch: number): typeof known => {
    if (known.epoch === epoch) return known;
    const drawn = rng.fork(epoch);
    const order = Int32Array.from({ length: rowsPerEpoch }, (_, row) => row);
    drawn.shuffle(order);
    known = { epoch, offset: drawn.integer(length), order };
    return known;
  };
  const rows = (first: number, count: number): TokenRows => {
    const ids = new Int32Array(count * length);
    const targets = new Int32Array(count * length);
    for (let row = 0; row < count; row++) {
      const { offset, order } = openEpoch(Math.floor((first + row) / rowsPerEpoch));
      const start = offset + (order[(first + row) % rowsPerEpoch] ?? 0) * length;
      for (let at = 0; at < length; at++) {
        ids[row * length + at] = tokens[(start + at) % tokens.length] ?? 0;
        targets[row * length + at] = tokens[(start + at + 1) % tokens.length] ?? 0;
      }
    }
    return { ids, targets, rows: count, length };
  };
  return Object.freeze({ rowsPerEpoch, rows });
}
