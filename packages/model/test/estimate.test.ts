import { runSync } from '@moebius/core';
import { createKvCache, disposeTree, listTensors, type Tensor } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { estimateBytes, type LossSaved, type ModelConfig } from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyIds, tinyModel } from './tiny-model.ts';

await prepareEngine();

const bytesOf = (tensor: Tensor): number => tensor.size * (tensor.dtype === 'bool' ? 1 : 4);

/** Bytes of the distinct buffers of a tree, without those in `shared`. */
function distinctBytes(tree: unknown, shared: readonly Tensor[] = []): number {
  const seen = new Set<object>(shared.map((tensor) => tensor.dataId));
  let bytes = 0;
  for (const tensor of listTensors(tree)) {
    if (seen.has(tensor.dataId)) continue;
    seen.add(tensor.dataId);
    bytes += bytesOf(tensor);
  }
  return bytes;
}

/** Every tensor under a key `table` or `positions`: the model's own, not an activation. */
function tensorsUnder(node: unknown, names: readonly string[]): Tensor[] {
  if (node === null || typeof node !== 'object' || ArrayBuffer.isView(node)) return [];
  return Object.entries(node).flatMap(([key, value]) =>
    names.includes(key) ? listTensors(value) : tensorsUnder(value, names),
  );
}

describe('estimateBytes', () => {
  const batch = 2;
  const sequence = 5;
  const ids = tinyIds(batch * sequence);
  const shapes = [
    {},
    { norm_topk_prob: true },
    { num_experts: 0 },
    { tie_word_embeddings: true, num_experts_per_tok: 3, head_dim: 6, mlp_only_layers: [] },
  ];

  it.each(shapes)('equals the bytes forward saves, %j', (fields) => {
    const model = tinyModel(fields);
    const { config, parameters } = model;
    const { saved } = runSync(model.loss({ ids, targets: ids, batch }));
    const own = [
      ...parameters.ids().map((id) => parameters.read(id)),
      ...tensorsUnder(saved, ['table', 'positions']),
    ];
    const { trunk, head } = saved as LossSaved;
    const measured = distinctBytes({ trunk, head }, own);
    const estimate = estimateBytes(config, { batch, sequence });
    expect(measured - portableExtra(saved as LossSaved, config)).toBe(estimate.activations);
    expect(2 * distinctBytes((saved as LossSaved).crossEntropy)).toBe(estimate.logits);
    expect(own.length).toBeGreaterThan(parameters.ids().length);
    expect(distinctBytes(parameters.ids().map((id) => parameters.read(id)))).toBe(estimate.parameters);
    const gradients = runSync(model.backward(saved as LossSaved));
    expect(distinctBytes(gradients)).toBe(estimate.gradients);
    disposeTree(gradients);
    model.dispose();
  });

  /** What the portable bodies keep unlike the native kernels: probabilities for a log-sum-exp, expert rows, no plan. */
  function portableExtra(saved: LossSaved, config: ModelConfig): number {
    let extra = 0;
    const { num_experts: experts, num_experts_per_tok: topK } = config;
    const tokens = batch * sequence;
    const visit = (node: unknown): void => {
      if (node === null || typeof node !== 'object' || ArrayBuffer.isView(node)) return;
      const { sizes, kept, plan } = node as { sizes?: { heads: number }; kept?: Tensor[]; plan?: object };
      if (sizes !== undefined && kept?.length === 1) {
        const [probabilities] = kept;
        extra += bytesOf(probabilities as Tensor) - 4 * batch * sequence * sizes.heads;
      } else if (plan !== undefined && kept?.length === 3) {
        extra += bytesOf(kept[2] as Tensor) - 4 * (2 * tokens * topK + tokens + 1 + experts + 1);
      }
      for (const child of Object.values(node)) visit(child);
    };
    visit(saved);
    return extra;
  }

  it('equals the bytes of a full cache', () => {
    const model = tinyModel();
    const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headSize } = model.config;
    const cache = createKvCache({ layers, batch, positions: sequence, kvHeads, headSize });
    disposeTree(runSync(model.forward({ ids, batch }, { cache })));
    let filled = 0;
    for (let layer = 0; layer < layers; layer += 1) {
      const { lengths, keys, values } = cache.view(layer);
      const positions = lengths.reduce((sum, length) => sum + length, 0);
      filled += 4 * positions * ((keys.shape[2] ?? 0) + (values.shape[2] ?? 0));
    }
    expect(estimateBytes(model.config, { batch, sequence }).kvCache).toBe(filled);
    cache.dispose();
    model.dispose();
  });
});
