/**
 * @file Ways to share out the neurons of a dense layer, in equal numbers: at random (LLaMA-MoE found nothing better), by
 * clusters of their weights, and by which are active together (both MoEfication, Zhang et al. 2022).
 *
 * Letters: `F` neurons, `D` model width, `T` tokens.
 */
import type { Rng } from '@moebius/core';

import { configuration, type HostTensor, type NeuronSplit } from './host-expert.ts';
import {
  assignBalanced,
  centresOf,
  countPairsOf,
  farthestPoints,
  growGroups,
  improveGroupsInto,
  type Points,
  squaredDistances,
} from './split-neurons.kernel.ts';
import { shareOf } from './upcycle.ts';

/**
 * Neurons at random.
 *
 * @param neurons - `F`
 * @param options - `experts` divides `F`; `rng` is advanced
 * @returns ascending neurons of each expert
 * @throws `configuration` when experts do not divide neurons
 */
export function splitAtRandom(
  neurons: number,
  options: { readonly experts: number; readonly rng: Rng },
): NeuronSplit {
  const width = shareOf(neurons, options.experts);
  const order = Int32Array.from({ length: neurons }, (_, neuron) => neuron);
  options.rng.shuffle(order);
  return Array.from({ length: options.experts }, (_, e) => order.slice(e * width, (e + 1) * width).sort());
}

/**
 * Neurons by k-means with groups of equal size: those whose weights point the same way come together. The nearest pair of
 * neuron and centre is joined first; of all rounds the one with the smallest distances is kept.
 *
 * @param rows - one row of weights for each neuron, `[F, D]`, as the part `gate` or `up` has them
 * @param options - `experts` divides `F`; `rng` (advanced) chooses the first centre; `rounds` at most, default 30
 * @returns ascending neurons of each expert
 * @throws `configuration` when experts do not divide neurons
 * @example
 * ```ts
 * import { createRng } from '@moebius/core';
 *
 * const rows = { shape: [4, 1], data: Float32Array.of(9, -9, 8, -8) };
 * clusterNeurons(rows, { experts: 2, rng: createRng(1) }); // neurons 0 and 2 together, 1 and 3 together
 * ```
 */
export function clusterNeurons(
  rows: HostTensor,
  options: { readonly experts: number; readonly rng: Rng; readonly rounds?: number },
): NeuronSplit {
  const { experts, rng, rounds = 30 } = options;
  const [count = 0, width = 0] = rows.shape;
  shareOf(count, experts);
  const points: Points = { data: rows.data, count, width };
  let centres = farthestPoints(points, experts, rng.integer(count));
  let best: ReturnType<typeof assignBalanced> = { group: new Int32Array(count), cost: Infinity };
  for (let round = 0, before = ''; round < rounds; round += 1) {
    const found = assignBalanced(squaredDistances(points, centres), experts);
    if (found.cost < best.cost) best = found;
    const now = found.group.join();
    if (now === before) break;
    before = now;
    centres = centresOf(points, found.group, experts);
  }
  return listGroups(best.group, experts);
}

/**
 * Neurons by co-activation: groups that keep as many common activations inside as swaps of two neurons can reach.
 *
 * @param counts - symmetric `[F, F]`: how often two neurons were active together; see {@link countCoActivations}
 * @param options - `experts` divides `F`; `passes` over all neurons at most, default 20
 * @returns ascending neurons of each expert
 * @throws `configuration` when counts are not square or not symmetric, or experts do not divide neurons
 */
export function splitByCoActivation(
  counts: HostTensor,
  options: { readonly experts: number; readonly passes?: number },
): NeuronSplit {
  const { experts, passes = 20 } = options;
  const [neurons = 0, others = 0] = counts.shape;
  if (neurons !== others || counts.data.length !== neurons * neurons) {
    throw configuration('co-activation counts', 'must be square, [F, F]', `[${counts.shape.join(', ')}]`);
  }
  const odd = counts.data.findIndex(
    (value, at) => value !== counts.data[(at % neurons) * neurons + Math.floor(at / neurons)],
  );
  if (odd >= 0) {
    const [a, b] = [Math.floor(odd / neurons), odd % neurons];
    throw configuration(
      'co-activation counts',
      'must be symmetric',
      `${counts.data[odd]} at [${a}, ${b}] and ${counts.data[b * neurons + a]} at [${b}, ${a}]`,
    );
  }
  shareOf(neurons, experts);
  const group = growGroups(counts.data, experts);
  improveGroupsInto(group, counts.data, experts, passes);
  return listGroups(group, experts);
}

/**
 * How often two neurons are among the most active ones of a token.
 *
 * @param hidden - activations between the matrices of the layer, `[T, F]`
 * @param options - `share` of the neurons that count as active at each token, default 0.1
 * @returns counts `[F, F]`, 0 on the diagonal; counts of several texts may be added
 * @throws `configuration` on a share outside (0, 1]
 */
export function countCoActivations(
  hidden: HostTensor,
  options: { readonly share?: number } = {},
): HostTensor {
  const { share = 0.1 } = options;
  const [, neurons = 0] = hidden.shape;
  if (!(share > 0 && share <= 1))
    throw configuration('share', 'must be above 0 and at most 1', String(share));
  const most = Math.max(1, Math.round(share * neurons));
  return { shape: [neurons, neurons], data: countPairsOf(hidden.data, neurons, most) };
}

function listGroups(group: Int32Array, experts: number): NeuronSplit {
  return Array.from({ length: experts }, (_, e) =>
    Int32Array.from([...group.keys()].filter((neuron) => group[neuron] === e)),
  );
}
