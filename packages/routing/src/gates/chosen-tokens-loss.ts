/**
 * @file The auxiliary loss of Mixture-of-Depths (Raposo et al. 2024, section 3.5): a router whose choice needs the whole sequence learns to
 * say of each token alone whether it will be chosen.
 *
 * `L = mean over tokens and experts of BCE(σ(z_te), 1 where e has t)`. Its gradient moves the logits toward 0 at the border of the choice, so
 * that `z > 0` predicts it.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { addN, mul, reshape, runOp, sigmoid, softplus, sub, sum, tensor2d } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { countTokens } from '../losses/count-pairs.kernel.ts';
import { defineBalanceLoss } from '../balance-loss.ts';
import type { BalanceLoss, GateObservation } from '../balance-loss.ts';

/**
 * The loss, named `chosen-tokens`: counts = [tokens · experts], sums = [Σ BCE]; the mean is over the tokens and experts of all layers.
 */
export function chosenTokensLoss(): BalanceLoss {
  return defineBalanceLoss({
    name: 'chosen-tokens',
    statistics: (observation) => ({
      counts: Float64Array.of(cellsOf(observation)),
      sums: runOp('chosenTokens.statistics', () => {
        const { logits } = observation;
        const { chosen, isIn } = tablesOf(observation);
        // BCE(σ(z), c) = softplus(z) - c z
        const loss_TE = mul(isIn, sub(softplus(logits), mul(chosen, logits)));
        return reshape(sum(loss_TE), [1]) as Tensor1D;
      }),
    }),
    value: (layers) => {
      const cells = layers.reduce((total, layer) => total + (layer.counts[0] ?? 0), 0);
      return cells === 0 ? 0 : layers.reduce((total, layer) => total + (layer.sums[0] ?? 0), 0) / cells;
    },
    gradient: (observation, { counts, scale }) =>
      runOp('chosenTokens.gradient', () => {
        const cells = counts.reduce((total, vector) => total + (vector[0] ?? 0), 0);
        const { chosen, isIn } = tablesOf(observation);
        const error_TE = addN([sigmoid(observation.logits), mul(chosen, -1)]);
        return { dlogits: mul<Tensor2D>(mul(isIn, error_TE), cells === 0 ? 0 : scale / cells) };
      }),
  });
}

function cellsOf({ plan, mask }: GateObservation): number {
  return countTokens(plan.tokens, mask) * plan.experts;
}

/** float32 `[T, E]`: 1 where a pair is, and 1 where a token counts. */
function tablesOf({ plan, mask }: GateObservation): { readonly chosen: Tensor2D; readonly isIn: Tensor2D } {
  const { tokens, experts, source } = plan;
  const chosen = new Float32Array(tokens * experts);
  for (const at of source) chosen[at] = 1;
  const isIn = Float32Array.from(chosen, (_, i) => (mask?.[Math.floor(i / experts)] === 0 ? 0 : 1));
  return { chosen: tensor2d(chosen, [tokens, experts]), isIn: tensor2d(isIn, [tokens, experts]) };
}
