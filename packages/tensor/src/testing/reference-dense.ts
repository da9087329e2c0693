/**
 * @file Slow, obvious loops in double precision for dense operations: what the fast ones must equal.
 */
import type { Activation } from '../ops/activation.ts';
import type { Matrix } from './matrix.ts';

/** `a b`, `[R, I] × [I, C]`. */
export function referenceMatmul(a: Matrix, b: Matrix): Matrix {
  return a.map((row) =>
    (b[0] ?? []).map((_, c) => {
      let total = 0;
      for (let i = 0; i < row.length; i += 1) total += row[i]! * b[i]![c]!;
      return total;
    }),
  );
}

/** `mᵀ`. */
export function referenceTranspose(m: Matrix): Matrix {
  return (m[0] ?? []).map((_, c) => m.map((row) => row[c]!));
}

/** `x Wᵀ + b`, weights `[O, I]`. */
export function referenceLinear(x: Matrix, weight: Matrix, bias?: readonly number[]): Matrix {
  return x.map((row) =>
    weight.map((w, o) => {
      let total = bias?.[o] ?? 0;
      for (let i = 0; i < row.length; i += 1) total += row[i]! * w[i]!;
      return total;
    }),
  );
}

/** `x w / sqrt(mean(x²) + ε)` per row. */
export function referenceRmsNorm(x: Matrix, weight: readonly number[], epsilon: number): Matrix {
  return x.map((row) => {
    let squares = 0;
    for (const value of row) squares += value * value;
    const inverse = 1 / Math.sqrt(squares / row.length + epsilon);
    return row.map((value, d) => value * inverse * weight[d]!);
  });
}

/** The error function to double precision: Taylor series near 0, continued fraction far out. */
export function referenceErf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 3) {
    let term = x;
    let total = x;
    for (let n = 1; n < 200 && Math.abs(term) > 1e-18; n += 1) {
      term *= (-x * x) / n;
      total += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * total;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n -= 1) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-size * size) / (Math.sqrt(Math.PI) * (size + fraction)));
}

/** One activation of one number. */
export function referenceActivation(x: number, activation: Activation): number {
  switch (activation) {
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'gelu':
      return 0.5 * x * (1 + referenceErf(x / Math.SQRT2));
    case 'gelu_tanh':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case 'relu':
      return Math.max(x, 0);
  }
}

/** One gated network's weights, each `[F, D]`. */
export interface ReferenceGatedWeights {
  /** `[F, D]`. */
  gate: Matrix;
  /** `[F, D]`. */
  up: Matrix;
  /** `[F, D]`. */
  down: Matrix;
}

/** `(act(x Gᵀ) ⊙ x Uᵀ) Dn`. */
export function referenceGatedFeedForward(
  x: Matrix,
  weights: ReferenceGatedWeights,
  activation: Activation,
): Matrix {
  const g = referenceLinear(x, weights.gate);
  const u = referenceLinear(x, weights.up);
  const hidden = g.map((row, t) => row.map((value, f) => referenceActivation(value, activation) * u[t]![f]!));
  return referenceMatmul(hidden, weights.down);
}

/** `act(x Uᵀ + b₁) Dn + b₂`. */
export function referenceFeedForward(
  x: Matrix,
  weights: { up: Matrix; down: Matrix; upBias?: readonly number[]; downBias?: readonly number[] },
  activation: Activation,
): Matrix {
  const hidden = referenceLinear(x, weights.up, weights.upBias).map((row) =>
    row.map((value) => referenceActivation(value, activation)),
  );
  return referenceMatmul(hidden, weights.down).map((row) =>
    row.map((value, d) => value + (weights.downBias?.[d] ?? 0)),
  );
}

/** Mean cross-entropy and mean squared log-sum-exp over counted targets. */
export function referenceCrossEntropy(
  logits: Matrix,
  targets: ArrayLike<number>,
  ignoreIndex: number,
): { loss: number; zLoss: number; count: number; lossPerRow: number[] } {
  let loss = 0;
  let zLoss = 0;
  let count = 0;
  const lossPerRow = logits.map((row, t) => {
    if (targets[t] === ignoreIndex) return 0;
    const highest = Math.max(...row);
    let total = 0;
    for (const value of row) total += Math.exp(value - highest);
    const lse = highest + Math.log(total);
    const own = lse - row[targets[t]!]!;
    loss += own;
    zLoss += lse * lse;
    count += 1;
    return own;
  });
  return { loss: loss / Math.max(count, 1), zLoss: zLoss / Math.max(count, 1), count, lossPerRow };
}
