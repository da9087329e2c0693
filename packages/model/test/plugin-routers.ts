/** @file A router as a user writes it: cosine similarity to learned directions, in plain TensorFlow.js operations. */
import { defineRouter, defineRouterFactory, planScores } from '@moebius/routing';
import type { Router, RouterFactory } from '@moebius/routing';
import {
  add,
  cloneTensor,
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
import type { Tensor, Tensor1D, Tensor2D, TfjsSaved } from '@moebius/tensor';

/** Settings of {@link cosineRouter}. */
export interface CosineOptions {
  readonly experts: number;
  readonly topK: number;
  /** Where the trained temperature begins. */
  readonly temperature: number;
}

const unit = (rows: Tensor): Tensor => div(rows, sqrt(add(sum(square(rows), 1, true), 1e-12)));
const cosine = fromTfjs(
  (x, weight, temperature) =>
    div(matMul(unit(x as Tensor), transpose(unit(weight as Tensor))), temperature as Tensor),
  'angle',
);
const probabilities = fromTfjs((logits) => softmax(logits as Tensor), 'cosineScores');

interface Saved {
  readonly cosine: TfjsSaved;
  readonly probabilities: TfjsSaved;
  readonly plan: ReturnType<typeof planScores>;
}

/** Routes by cosine similarity, `[E, D]` directions and a trained temperature `[1]`. */
export function cosineRouter({ experts, topK, temperature }: CosineOptions): Router {
  return defineRouter({
    name: 'angle',
    experts,
    topK,
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth], temperature: [1] }),
    bufferShapes: () => ({}),
    initialise: (name, { shape, rng, standardDeviation }) => {
      const values = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
      if (name === 'temperature') values.fill(temperature);
      else rng.fillNormal(values, { standardDeviation });
      return values;
    },
    forward: (x, own, { layer, mask }) =>
      runOp('cosineRouter', () => {
        const { value: logits, saved: first } = cosine.forward(
          x,
          own['weight'] as Tensor,
          own['temperature'] as Tensor,
        );
        const { value: scores, saved: second } = probabilities.forward(logits);
        const plan = planScores(scores as Tensor2D, {
          topK,
          ...(layer === undefined ? {} : { layer }),
          ...(mask === undefined ? {} : { mask }),
        });
        const { value: weights } = gatherScoresForward(scores as Tensor2D, plan);
        return {
          route: { kind: 'pairs' as const, plan, weights },
          logits: logits as Tensor2D,
          scores: scores as Tensor2D,
          saved: { cosine: first, probabilities: second, plan } satisfies Saved,
        };
      }),
    backward: (saved, { route, dlogits, dscores }) =>
      runOp('cosineRouter.backward', () => {
        const { cosine: first, probabilities: second, plan } = saved as Saved;
        const weights = route?.kind === 'pairs' ? route.weights : undefined;
        const viaWeights =
          weights === undefined ? undefined : gatherScoresBackward({ plan }, weights as Tensor1D).dscores;
        const [viaScores] = probabilities.backward(second, total([viaWeights, dscores]));
        const [dx, dweight, dtemperature] = cosine.backward(first, total([viaScores, dlogits]));
        return {
          dx: dx as Tensor2D,
          parameters: { weight: dweight as Tensor, temperature: dtemperature as Tensor },
        };
      }),
  });
}

function total(terms: readonly (Tensor | undefined)[]): Tensor {
  const given = terms.filter((term) => term !== undefined);
  const [first, ...rest] = given;
  if (first === undefined) throw new Error('no gradient');
  return rest.reduce((sumSoFar, term) => add(sumSoFar, term), cloneTensor(first));
}

/** Makes {@link cosineRouter} by name. */
export const cosineFactory: RouterFactory = defineRouterFactory({
  name: 'angle',
  create: ({ experts, topK }, { temperature = 0.5 }) =>
    cosineRouter({ experts, topK, temperature: temperature as number }),
});
