/**
 * @file Losses on a router's own matrix instead of its decisions: rows of different experts orthogonal, and short (DynMoE, 2405.14297, eq. 9-10).
 * They are weighted with tokens, so that they add up over micro-batches like every other loss and count once, however many there are.
 *
 * Letters: `E` experts, `D` model width.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  div,
  eye,
  matMul,
  maximum,
  mul,
  norm,
  reshape,
  runOp,
  sqrt,
  square,
  sub,
  sum,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { countTokens } from './count-pairs.kernel.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/** Settings of {@link orthogonalityLoss}. */
export interface OrthogonalityOptions {
  /** The router's tensor whose rows are experts `[E, D]`. Default `weight`. */
  readonly parameter?: string | undefined;
  /** Weight of the mean length of a row (DynMoE's simplicity). Default 0. */
  readonly simplicity?: number | undefined;
}

/** A length below this is 0 and has no direction. */
const smallest = 1e-12;

/**
 * ‖W Wᵀ - I‖ (Frobenius) + simplicity · mean_e ‖w_e‖, the mean over layers.
 *
 * @param options - which tensor, and the weight of lengths
 * @returns a loss named `orthogonality`; 0 for orthonormal rows, √E for rows of 0
 * @throws `configuration`, when it sees a layer, where the router has no such tensor or nobody passes it
 */
export function orthogonalityLoss(options: OrthogonalityOptions = {}): BalanceLoss {
  const { parameter = 'weight', simplicity = 0 } = options;
  return defineBalanceLoss({
    name: 'orthogonality',
    needs: ['parameters'],
    statistics: (observation) => {
      const weight_ED = matrixOf(observation, parameter);
      const tokens = countTokens(observation.plan.tokens, observation.mask);
      const sums = runOp('orthogonality.statistics', () => {
        const lengths_E = norm(weight_ED, 2, 1);
        const both = add(norm(gram(weight_ED)), mul(sum(lengths_E), simplicity / weight_ED.shape[0]));
        return reshape(mul(both, tokens), [1]) as Tensor1D;
      });
      return { counts: Float64Array.of(tokens), sums };
    },
    value: (layers) => {
      const tokens = layers.reduce((total, { counts }) => total + (counts[0] ?? 0), 0);
      return tokens === 0 ? 0 : layers.reduce((total, { sums }) => total + (sums[0] ?? 0), 0) / tokens;
    },
    gradient: (observation, { counts, scale }) => {
      const weight_ED = matrixOf(observation, parameter);
      const all = counts.reduce((total, vector) => total + (vector[0] ?? 0), 0);
      const share = all === 0 ? 0 : (scale * countTokens(observation.plan.tokens, observation.mask)) / all;
      return runOp('orthogonality.gradient', () => {
        const gram_EE = gram(weight_ED);
        const apart_ED = div(matMul(gram_EE, weight_ED), div(maximum(norm(gram_EE), smallest), 2));
        const lengths_E1 = maximum(sqrt(sum(square(weight_ED), 1, true)), smallest);
        const short_ED = mul(div(weight_ED, lengths_E1), simplicity / weight_ED.shape[0]);
        return { parameters: { [parameter]: mul<Tensor2D>(add(apart_ED, short_ED), share) } };
      });
    },
  });
}

/** float32 `[E, E]`: W Wᵀ - I. */
function gram(weight_ED: Tensor2D): Tensor2D {
  return sub<Tensor2D>(matMul(weight_ED, weight_ED, false, true), eye(weight_ED.shape[0]));
}

function matrixOf({ parameters }: GateObservation, name: string): Tensor2D {
  const found = parameters?.[name];
  if (found !== undefined && found.rank === 2) return found as Tensor2D;
  const known = Object.keys(parameters ?? {});
  throw new MoebiusError({
    code: 'configuration',
    message: `orthogonalityLoss.parameter: must name a matrix of the router (${known.join(', ') || 'none was passed'}), got "${name}" (name the tensor whose rows are experts)`,
    details: { name, known },
  });
}
