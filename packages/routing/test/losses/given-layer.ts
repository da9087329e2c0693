/** @file Layers written as numbers, for tests of losses. */
import { disposeTree, tensor2d } from '@moebius/tensor';

import { planPairs, readStatistics } from '../../src/index.ts';
import type { BalanceLoss, GateObservation, GateView } from '../../src/index.ts';

/** What a layer decided, in numbers: rows of scores, chosen experts. */
export interface Given extends Omit<
  Partial<GateObservation>,
  'logits' | 'scores' | 'parameters' | 'plan' | 'config'
> {
  readonly score?: GateView['score'];
  readonly logits?: readonly number[][];
  readonly scores: readonly number[][];
  readonly chosen: readonly number[][];
  readonly weight?: readonly number[][];
}

/** Shows a layer to a loss. */
export function observe<T>(given: Given, use: (observation: GateObservation) => T): T {
  const {
    chosen,
    score = 'softmax',
    scores,
    logits = scores.map((row) => row.map(Math.log)),
    weight,
    ...rest
  } = given;
  const experts = scores[0]!.length;
  const [topK] = [chosen[0]!.length];
  const tensors = { logits: tensor2d(logits as number[][]), scores: tensor2d(scores as number[][]) };
  const parameters = weight === undefined ? undefined : { weight: tensor2d(weight as number[][]) };
  const offsets = Int32Array.from([0, ...chosen.map((_, t) => chosen.slice(0, t + 1).flat().length)]);
  const plan = planPairs(Int32Array.from(chosen.flat()), { experts, tokenOffsets: offsets });
  const config = { experts, topK, score };
  try {
    return use({ ...rest, ...tensors, config, plan, ...(parameters === undefined ? {} : { parameters }) });
  } finally {
    disposeTree([tensors, parameters ?? []]);
  }
}

/** The value of a loss on layers. */
export function valueOf(loss: BalanceLoss, ...layers: readonly Given[]): number {
  return loss.value(
    layers.map((layer) =>
      observe(layer, (observation) => {
        const statistics = loss.statistics(observation);
        const [host] = readStatistics([statistics]);
        disposeTree(statistics);
        return host!;
      }),
    ),
  );
}

/** Two tokens over four experts: the first likes 0 and 1, the second 0 and 2. */
export const two: Given = {
  scores: [
    [0.5, 0.3, 0.1, 0.1],
    [0.6, 0.1, 0.2, 0.1],
  ],
  chosen: [
    [0, 1],
    [0, 2],
  ],
};
