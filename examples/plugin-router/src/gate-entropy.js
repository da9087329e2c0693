/**
 * @file A balance loss in plain TensorFlow.js operations: the negative entropy of the gate, averaged over tokens.
 *
 * It is lowest where every token likes every expert equally well. `fromTfjs` derives the gradient, so that nothing here
 * is written twice.
 */
import { defineBalanceLoss } from '@moebius/routing';
import { add, fromTfjs, log, mul, reshape, runOp, softmax, sum, tensor1d, tensor2d } from '@moebius/tensor';

/** Keeps the logarithm of a probability that underflowed finite. */
const tiny = 1e-30;

/** Σ_t mask_t Σ_e p_te · log p_te: logits `[T, E]`, mask `[T, 1]` → `[1]`. */
const negativeEntropy = fromTfjs((logits, mask) => {
  const probability = softmax(logits);
  return reshape(sum(mul(mask, mul(probability, log(add(probability, tiny))))), [1]);
}, 'gateEntropy');

/** The loss, named `gate-entropy` in `losses.balance` of a run. */
export const gateEntropy = defineBalanceLoss({
  name: 'gate-entropy',
  // Additive over micro-batches: how many tokens (host), and their sum (device, not waited for).
  statistics: ({ logits, plan, mask }) => ({
    counts: Float64Array.of(countTokens(plan.tokens, mask)),
    sums: runOp(
      'gateEntropy.statistics',
      () => negativeEntropy.forward(logits, maskOf(plan.tokens, mask)).value,
    ),
  }),
  // The mean over the tokens of all layers.
  value: (layers) => ratio(total(layers, 'sums'), total(layers, 'counts')),
  gradient: ({ logits, plan, mask }, { counts, scale }) =>
    runOp('gateEntropy.gradient', () => {
      const { saved } = negativeEntropy.forward(logits, maskOf(plan.tokens, mask));
      const tokens = counts.reduce((all, vector) => all + vector[0], 0);
      const [dlogits] = negativeEntropy.backward(saved, tensor1d([ratio(scale, tokens)]));
      return { dlogits };
    }),
});

function total(layers, part) {
  return layers.reduce((all, layer) => all + layer[part][0], 0);
}

function ratio(value, count) {
  return count === 0 ? 0 : value / count;
}

function countTokens(tokens, mask) {
  return mask === undefined ? tokens : mask.reduce((all, entry) => all + (entry === 0 ? 0 : 1), 0);
}

function maskOf(tokens, mask) {
  return tensor2d(
    Float32Array.from({ length: tokens }, (_, at) => (mask?.[at] === 0 ? 0 : 1)),
    [tokens, 1],
  );
}
