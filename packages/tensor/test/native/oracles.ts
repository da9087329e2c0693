/** @file Slow, obvious loops in double precision: what every kernel must compute. */

/** A routing of pairs, by loops: which tokens each expert takes. */
export interface OraclePlan {
  readonly tokens: number;
  readonly experts: number;
  readonly offsets: number[];
  readonly token: number[];
  readonly source: number[];
  readonly tokenOffsets: number[];
  readonly slot: number[];
}

/** Groups `chosen[t]` (experts of token t) by expert and by token. */
export function planOf(chosen: readonly (readonly number[])[], experts: number): OraclePlan {
  const offsets = [0];
  const token: number[] = [];
  const source: number[] = [];
  const slots: number[][] = chosen.map(() => []);
  for (let e = 0; e < experts; e++) {
    for (const [t, list] of chosen.entries()) {
      if (!list.includes(e)) continue;
      slots[t]!.push(token.length);
      token.push(t);
      source.push(t * experts + e);
    }
    offsets.push(token.length);
  }
  const tokenOffsets = [0];
  for (const list of slots) tokenOffsets.push(tokenOffsets.at(-1)! + list.length);
  return { tokens: chosen.length, experts, offsets, token, source, tokenOffsets, slot: slots.flat() };
}

/** x[M,I] · w[O,I]ᵀ. */
export function linear(x: Float64Array, w: Float64Array, M: number, I: number): Float64Array {
  const O = w.length / I;
  const y = new Float64Array(M * O);
  for (let m = 0; m < M; m++)
    for (let o = 0; o < O; o++) for (let i = 0; i < I; i++) y[m * O + o]! += x[m * I + i]! * w[o * I + i]!;
  return y;
}

export function erf(x: number): number {
  let sum = 0;
  let term = x;
  for (let n = 0; n < 60; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

export const activations: Record<string, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0),
};

/** Routed gated experts; `weights` per pair, expert e's matrices are consecutive [F,D] in gate, up, down. */
export function experts(
  plan: OraclePlan,
  sizes: { D: number; F: number; activation: string },
  tensors: readonly Float64Array[],
): Float64Array {
  const [x, weights, gate, up, down] = tensors as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const { D, F } = sizes;
  const act = activations[sizes.activation]!;
  const y = new Float64Array(plan.tokens * D);
  for (let e = 0; e < plan.experts; e++) {
    for (let n = plan.offsets[e]!; n < plan.offsets[e + 1]!; n++) {
      const t = plan.token[n]!;
      for (let f = 0; f < F; f++) {
        let g = 0;
        let u = 0;
        const row = (e * F + f) * D;
        for (let d = 0; d < D; d++) {
          g += x[t * D + d]! * gate[row + d]!;
          u += x[t * D + d]! * up[row + d]!;
        }
        const h = weights[n]! * act(g) * u;
        for (let d = 0; d < D; d++) y[t * D + d]! += h * down[row + d]!;
      }
    }
  }
  return y;
}

/** x · w / rms(x), per row of width D. */
export function rmsNorm(x: Float64Array, w: Float64Array, epsilon: number): Float64Array {
  const D = w.length;
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += D) {
    let squares = 0;
    for (let d = 0; d < D; d++) squares += x[at + d]! ** 2;
    for (let d = 0; d < D; d++) y[at + d] = (x[at + d]! / Math.sqrt(squares / D + epsilon)) * w[d]!;
  }
  return y;
}

/** Rotates pairs (i, i + R/2) of each head by angles[position][i]. */
export function rope(
  x: Float64Array,
  sizes: { Z: number; C: number; half: number },
  angles: Float64Array,
  positions: readonly number[],
): Float64Array {
  const { Z, C, half } = sizes;
  const y = Float64Array.from(x);
  for (let at = 0; at < x.length; at += C) {
    const p = positions[Math.floor(at / Z)]!;
    for (let i = 0; i < half; i++) {
      const angle = angles[p * half + i]!;
      const [a, b] = [x[at + i]!, x[at + half + i]!];
      y[at + i] = a * Math.cos(angle) - b * Math.sin(angle);
      y[at + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return y;
}

/** Attention of query rows over keys of one sequence, `sees(i, j)` decides the mask. Rows are [heads · C] wide. */
export function attention(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  sizes: { heads: number; kvHeads: number; C: number; scale: number },
  sees: (i: number, j: number) => boolean,
): Float64Array {
  const { heads, kvHeads, C, scale } = sizes;
  const [Z, Y] = [heads * C, kvHeads * C];
  const [n, keys] = [q.length / Z, k.length / Y];
  const y = new Float64Array(q.length);
  for (let i = 0; i < n; i++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const scores = Array.from({ length: keys }, (_, j) => {
        if (!sees(i, j)) return -Infinity;
        let s = 0;
        for (let c = 0; c < C; c++) s += q[i * Z + h * C + c]! * k[j * Y + kv * C + c]!;
        return s * scale;
      });
      const top = Math.max(...scores);
      const p = scores.map((s) => Math.exp(s - top));
      const total = p.reduce((a, b) => a + b, 0);
      for (let j = 0; j < keys; j++)
        for (let c = 0; c < C; c++) y[i * Z + h * C + c]! += (p[j]! / total) * v[j * Y + kv * C + c]!;
    }
  }
  return y;
}
