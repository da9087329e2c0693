/**
 * @file Which neurons of a dense model are active together on a text: for splits by co-activation.
 *
 * The dense model is run as one with a single expert in each layer, of a kind that looks at its own activations. The activations
 * between the matrices are computed a second time for it, one layer at a time.
 */
import { runSync } from '@moebius/core';
import { defineExpert, type ExpertKind, gatedExpert } from '@moebius/routing';
import { countCoActivations, type HostTensor } from '@moebius/routing/surgery';
import { disposeTree, linearForward, mul, readHostSync, runOp, sigmoid } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { TokenBatch } from '../decoder.ts';
import { modelOfValues, type ModelValues } from './model-values.ts';
import { upcycleModel } from './upcycle-model.ts';

/**
 * Counts how often two neurons of a layer are among the most active ones of a token.
 *
 * @param dense - every layer is dense; borrowed
 * @param batches - tokens of a text; some thousand are enough for layers of some thousand neurons
 * @param options - `share` of the neurons that count as active at each token, default 0.1
 * @returns counts `[F, F]` by layer, for {@link upcycleModel}
 * @throws `configuration` when the model has experts already
 */
export function measureCoActivations(
  dense: ModelValues,
  batches: Iterable<TokenBatch>,
  options: { readonly share?: number } = {},
): { readonly [layer: number]: HostTensor } {
  const { values } = upcycleModel(dense, { experts: 1, topK: 1 });
  const counts: { [layer: number]: HostTensor } = {};
  const kinds = values.parts.experts.map((_, layer) =>
    watch((hidden) => {
      const found = countCoActivations(hidden, options);
      const before = counts[layer];
      counts[layer] =
        before === undefined
          ? found
          : { ...found, data: found.data.map((count, at) => count + (before.data[at] ?? 0)) };
    }),
  );
  const model = modelOfValues({
    ...values,
    parts: { ...values.parts, experts: kinds.map((kind) => [kind]) },
  });
  try {
    // In training a layer runs its experts by their kind, and not through a kernel of its own.
    for (const batch of batches)
      disposeTree(runSync(model.forward(batch, { training: true, phase: 'evaluate' })));
  } finally {
    model.dispose();
  }
  return counts;
}

/** The family's expert, seen through: the same outputs. */
function watch(see: (hidden: HostTensor) => void): ExpertKind {
  const { fused: _fused, ...kind } = gatedExpert();
  return defineExpert({
    ...kind,
    forward(x, parameters) {
      const hidden = runOp('coActivations', () => {
        const gate = linearForward(x, parameters['gate'] as Tensor2D).value;
        return mul<Tensor2D>(mul(gate, sigmoid(gate)), linearForward(x, parameters['up'] as Tensor2D).value);
      });
      see({ shape: hidden.shape, data: Float32Array.from(readHostSync(hidden)) });
      hidden.dispose();
      return kind.forward(x, parameters);
    },
  });
}
