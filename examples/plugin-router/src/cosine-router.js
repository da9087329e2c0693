/**
 * @file A router in plain TensorFlow.js operations: experts are directions, and a token goes to the K that point most nearly where
 * it points. The length of a hidden state has no say, and a trained temperature says how sharp the choice is.
 */
import { defineRouter, defineRouterFactory, planScores } from '@moebius/routing';
import {
  add,
  div,
  fromTfjs,
  gatherScoresBackward,
  gatherScoresForward,
  matMul,
  runOp,
  softmax,
  sqrt,
  square,
  sum,
  transpose,
} from '@moebius/tensor';

const unit = (rows) => div(rows, sqrt(add(sum(square(rows), 1, true), 1e-12)));

/** x `[T, D]`, directions `[E, D]`, temperature `[1]` → logits `[T, E]`. */
const similarity = fromTfjs(
  (x, weight, temperature) => div(matMul(unit(x), transpose(unit(weight))), temperature),
  'cosineRouter.similarity',
);
/** logits `[T, E]` → probabilities `[T, E]`. */
const probability = fromTfjs((logits) => softmax(logits), 'cosineRouter.probability');

/** The factory, named `plain-cosine` in `router` of a run; option `temperature`: where the trained one begins. */
export const cosine = defineRouterFactory({
  name: 'plain-cosine',
  create: ({ experts, topK }, { temperature = 0.2 }) => {
    if (typeof temperature !== 'number' || !(temperature > 0)) {
      throw new TypeError(`temperature: must be above 0, got ${JSON.stringify(temperature)}`);
    }
    return cosineRouter({ experts, topK, temperature });
  },
});

/** One router, for `createModel({ router })`. */
export function cosineRouter({ experts, topK, temperature }) {
  return defineRouter({
    name: 'plain-cosine',
    experts,
    topK,
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth], temperature: [1] }),
    bufferShapes: () => ({}),
    initialise: (parameter, { shape, rng, standardDeviation }) => {
      if (parameter === 'temperature') return Float32Array.of(temperature);
      const values = new Float32Array(shape[0] * shape[1]);
      rng.fillNormal(values, { standardDeviation });
      return values;
    },
    forward: (x, { weight, temperature: current }, { layer, mask }) =>
      runOp('cosineRouter', () => {
        const logits = similarity.forward(x, weight, current);
        const scores = probability.forward(logits.value);
        const plan = planScores(scores.value, { topK, layer, mask });
        return {
          route: { kind: 'pairs', plan, weights: gatherScoresForward(scores.value, plan).value },
          logits: logits.value,
          scores: scores.value,
          saved: { logits: logits.saved, scores: scores.saved, plan },
        };
      }),
    // Gradients arrive at the weights (from the experts), and at scores and logits (from balance losses).
    backward: (saved, { route, dscores, dlogits }) =>
      runOp('cosineRouter.backward', () => {
        const ofWeights = route && gatherScoresBackward({ plan: saved.plan }, route.weights).dscores;
        const scores = total(ofWeights, dscores);
        const viaScores = scores && probability.backward(saved.scores, scores)[0];
        const [dx, weight, ofTemperature] = similarity.backward(saved.logits, total(viaScores, dlogits));
        return { dx, parameters: { weight, temperature: ofTemperature } };
      }),
  });
}

/** The sum of two gradients of which one may be absent. */
function total(left, right) {
  if (left === undefined || right === undefined) return left ?? right;
  return add(left, right);
}
