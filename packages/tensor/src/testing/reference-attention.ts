/**
 * @file Slow, obvious loops in double precision for attention, per-head norm and rotary positions.
 */
import type { Matrix } from './matrix.ts';

/** Sizes of {@link referenceAttention}. */
export interface ReferenceAttentionOptions {
  /** Sequences. */
  batch: number;
  /** Query heads. */
  heads: number;
  /** Key/value heads. */
  kvHeads: number;
  /** Multiplies the scores. */
  scale: number;
}

/** Causal attention, rows batch-major; query head `h` reads key/value head `floor(h / (H/J))`. */
export function referenceAttention(
  q: Matrix,
  k: Matrix,
  v: Matrix,
  options: ReferenceAttentionOptions,
): Matrix {
  const { batch, heads, kvHeads, scale } = options;
  const sequence = q.length / batch;
  return q.map((row, t) => {
    const start = Math.floor(t / sequence) * sequence;
    const seen = Array.from({ length: t - start + 1 }, (_, j) => start + j);
    return attendRow(
      row,
      seen.map((j) => k[j]!),
      seen.map((j) => v[j]!),
      { heads, kvHeads, scale },
    );
  });
}

/** One query row over the given key and value rows. */
export function attendRow(
  q: readonly number[],
  keys: Matrix,
  values: Matrix,
  options: { heads: number; kvHeads: number; scale: number },
): number[] {
  const { heads, kvHeads, scale } = options;
  const headSize = q.length / heads;
  const out: number[] = [];
  for (let h = 0; h < heads; h += 1) {
    const j = Math.floor(h / (heads / kvHeads));
    const scores = keys.map((key) => {
      let total = 0;
      for (let c = 0; c < headSize; c += 1) total += q[h * headSize + c]! * key[j * headSize + c]!;
      return total * scale;
    });
    const highest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - highest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let c = 0; c < headSize; c += 1) {
      let mixed = 0;
      for (const [row, weight] of weights.entries())
        mixed += (weight / total) * values[row]![j * headSize + c]!;
      out.push(mixed);
    }
  }
  return out;
}

/** Per-head RMS norm (weight null: none), then rotary positions (theta null: none), rotate-half layout. */
export function referenceHeadNormRope(
  x: Matrix,
  weight: readonly number[] | null,
  options: { heads: number; epsilon: number; positions: ArrayLike<number>; theta: number | null },
): Matrix {
  const { heads, epsilon, positions, theta } = options;
  return x.map((row, t) => {
    const headSize = row.length / heads;
    const out: number[] = [];
    for (let h = 0; h < heads; h += 1) {
      const head = row.slice(h * headSize, (h + 1) * headSize);
      const normed = weight === null ? head : normHead(head, weight, epsilon);
      out.push(...(theta === null ? normed : turnHead(normed, positions[t]!, theta)));
    }
    return out;
  });
}

function normHead(head: readonly number[], weight: readonly number[], epsilon: number): number[] {
  const squares = head.reduce((sum, value) => sum + value * value, 0);
  const inverse = 1 / Math.sqrt(squares / head.length + epsilon);
  return head.map((value, c) => value * inverse * weight[c]!);
}

function turnHead(head: readonly number[], position: number, theta: number): number[] {
  const half = head.length / 2;
  return head.map((value, c) => {
    const i = c % half;
    const angle = position * theta ** (-i / half);
    const other = c < half ? -head[c + half]! : head[c - half]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}
