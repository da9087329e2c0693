/**
 * @file IA³ experts on a frozen base: learned scales of hidden neurons (Liu et al. 2022, arXiv 2205.05638, §3.3), as experts MoV
 * (Zadouri et al. 2023, arXiv 2309.05444, §2.2).
 *
 * Letters: `F` hidden width, `D` model width.
 */
import { configurationError } from '@moebius/core';
import { expandDims, mul, sum } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { adaptedExpert } from './adapted-expert.ts';
import type { ExpertBase, ExpertKind } from '../define-expert.ts';
import { gatedExpert } from '../expert-kinds.ts';

/** Settings of {@link ia3Expert}. */
export interface Ia3Options {
  /** The kind that is adapted; it needs a matrix `down` `[F, D]`. Default `gatedExpert()`. */
  readonly base?: ExpertKind;
  /** As of `loraExpert`. Default `layer`. */
  readonly scope?: ExpertBase['scope'];
}

/**
 * `y = (ℓ ⊙ h) Dn` with the hidden activations `h` of the base: one number a neuron, in the part `scale` `[F]` that begins as 1.
 *
 * @param options - base and scope
 * @returns a kind named like `ia3-gated-silu`
 * @throws `configuration` when the base has no matrix `down` `[F, D]`
 */
export function ia3Expert(options: Ia3Options = {}): ExpertKind {
  const { base = gatedExpert(), scope = 'layer' } = options;
  if (base.parts['down']?.join() !== 'F,D') {
    throw configurationError('ia3Expert', [
      { path: 'base', expectation: 'must have a part down [F, D]', got: base.name },
    ]);
  }
  return adaptedExpert({
    name: `ia3-${scope === 'expert' ? 'own-' : ''}${base.name}`,
    base,
    scope,
    parts: { scale: ['F'] },
    merge: ({ down, scale }) => ({ down: mul(down as Tensor2D, expandDims(scale as Tensor1D, 1)) }),
    backward: ({ down }, dmerged) => ({ scale: sum(mul(dmerged['down'] as Tensor2D, down as Tensor2D), 1) }),
    initialise: (_part, { shape }) => new Float32Array(shape[0] ?? 0).fill(1),
  });
}
