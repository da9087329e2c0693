/**
 * @file Low-rank experts beside a frozen network: LoRAMoE (Dou et al. 2023, arXiv 2312.09979, eq. 5) and the general form
 * `y = FFN(x) + Σ x ΔW_i G_i(x)` of the survey (eq. 13), whose FFN is then the layer's shared expert.
 *
 * Letters: `R` rows, `D` model width, `r` rank.
 */
import { configurationError } from '@moebius/core';
import { linearBackward, linearForward, mul, runOp } from '@moebius/tensor';
import type { LinearSaved, Tensor2D } from '@moebius/tensor';

import { defineExpert } from '../define-expert.ts';
import type { ExpertKind } from '../define-expert.ts';

/** Settings of {@link lowRankExpert}. */
export interface LowRankOptions {
  /** Rank `r`. */
  readonly rank: number;
  /** The answer is multiplied by alpha / rank. Default `rank`. */
  readonly alpha?: number;
}

/**
 * `y = (alpha / r) · B A x`. Parts `a` `[r, D]`, uniform in ±1/√D at first, and `b` `[D, r]`, 0 at first.
 *
 * @param options - rank and alpha
 * @returns a kind named like `low-rank-r8-a8`
 * @throws `configuration`
 */
export function lowRankExpert(options: LowRankOptions): ExpertKind {
  const { rank, alpha = rank } = options;
  if (!Number.isInteger(rank) || rank < 1 || !(alpha > 0)) {
    throw configurationError('lowRankExpert', [
      {
        path: 'rank',
        expectation: 'must be an integer of at least 1, and alpha above 0',
        got: `${rank}, ${alpha}`,
      },
    ]);
  }
  const scale = alpha / rank;
  return defineExpert({
    name: `low-rank-r${rank}-a${String(alpha).replace('.', '-')}`,
    parts: { a: [rank, 'D'], b: ['D', rank] },
    neuronAxis: null,
    initialise: (part, { shape, rng }) => {
      const values = new Float32Array((shape[0] ?? 0) * (shape[1] ?? 0));
      const bound = 1 / Math.sqrt(shape[1] ?? 1);
      if (part === 'a') rng.fillUniform(values, { low: -bound, high: bound });
      return values;
    },
    forward: (x, { a, b }) =>
      runOp('lowRankExpert', () => {
        const down = linearForward(x, a as Tensor2D);
        const up = linearForward(down.value, b as Tensor2D);
        return { value: mul<Tensor2D>(up.value, scale), saved: { down: down.saved, up: up.saved } };
      }),
    backward: (saved, dy) =>
      runOp('lowRankExpert.backward', () => {
        const { down, up } = saved as { down: LinearSaved; up: LinearSaved };
        const { dx: dinner, dweight: b } = linearBackward(up, mul<Tensor2D>(dy, scale));
        const { dx, dweight: a } = linearBackward(down, dinner);
        return { dx, parameters: { a, b } };
      }),
    flops: (rows, { modelWidth }) => rows * modelWidth * (4 * rank + 1),
    trusted: true,
  });
}
