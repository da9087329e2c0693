import { createEngine, disposeTree, readHostSync, softmax, tensor2d } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import type { BalanceLoss, GateObservation, HostStatistics } from '../balance-loss.ts';
import { parseGateConfig } from '../gate-config.ts';
import { loadBalanceLoss } from './load-balance-loss.ts';
import { addStatistics, readStatistics, takeLossGradients } from '../loss-statistics.ts';
import { planTopK } from '../plan-top-k.ts';
import { selectExperts } from '../select-experts.kernel.ts';
import { zLoss } from './z-loss.ts';
import { checkLeaks } from '../../test/leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

const reference = [
  [2, 1, 0, -1],
  [0.5, 1.5, -0.5, 0],
  [1, 0, 2, -2],
  [3, 0, 1, 1.5],
];

function observe<T>(
  rows: number[][],
  topK: number,
  use: (observation: GateObservation) => T,
  mask?: Uint8Array,
): T {
  const experts = rows[0]!.length;
  const config = parseGateConfig({ experts, topK });
  const logits = tensor2d(rows);
  const scores = softmax(logits);
  const masked = mask === undefined ? {} : { mask };
  const { ids } = selectExperts({ logits: rows.flat(), ...masked }, config);
  const plan = planTopK(ids, { tokens: rows.length, experts, topK, ...masked });
  try {
    return use({ config, plan, logits, scores, ...masked });
  } finally {
    disposeTree([logits, scores]);
  }
}

function statisticsOf(loss: BalanceLoss, rows: number[][], topK: number, mask?: Uint8Array): HostStatistics {
  return observe(
    rows,
    topK,
    (observation) => {
      const statistics = loss.statistics(observation);
      const [host] = readStatistics([statistics]);
      disposeTree(statistics);
      return host!;
    },
    mask,
  );
}

const valueOf = (loss: BalanceLoss, layers: number[][][], topK: number): number =>
  loss.value(layers.map((rows) => statisticsOf(loss, rows, topK)));

describe('published losses on the reference logits', () => {
  it('Switch top-1, E·Σ f·P, is 1.369276', () => {
    expect(valueOf(loadBalanceLoss({ pooling: 'pooled' }), [reference], 1)).toBeCloseTo(1.369276, 5);
  });

  it('Hugging Face top-k, whose f sums to k, is 2.591781; divided by k it is 1.295890', () => {
    expect(valueOf(loadBalanceLoss({ pooling: 'pooled' }), [reference], 2)).toBeCloseTo(2.591781, 5);
    expect(valueOf(loadBalanceLoss({ pooling: 'pooled', divideByTopK: true }), [reference], 2)).toBeCloseTo(
      1.29589,
      5,
    );
  });

  it('z-loss is 6.791749', () => {
    expect(valueOf(zLoss(), [reference], 2)).toBeCloseTo(6.791749, 4);
  });

  it('DeepSeek sequence-wise with two sequences of two tokens is 1.543472', () => {
    const loss = loadBalanceLoss({ pooling: 'per-sequence', sequenceTokens: 2, divideByTopK: true });
    expect(valueOf(loss, [reference], 2)).toBeCloseTo(1.543472, 5);
  });
});

describe('pooling', () => {
  const left = [
    [4, -4],
    [4, -4],
  ];
  const right = [
    [-4, 4],
    [-4, 4],
  ];

  it('pooled cancels opposite imbalances of two layers, per-layer does not', () => {
    expect(valueOf(loadBalanceLoss({ pooling: 'pooled' }), [left, right], 1)).toBeCloseTo(1, 5);
    expect(valueOf(loadBalanceLoss({ pooling: 'per-layer' }), [left, right], 1)).toBeCloseTo(
      2 / (1 + Math.exp(-8)),
      5,
    );
    expect(valueOf(loadBalanceLoss({ pooling: 'per-layer' }), [left], 1)).toBeCloseTo(
      valueOf(loadBalanceLoss({ pooling: 'pooled' }), [left], 1),
      6,
    );
  });

  it('is worth k at perfect balance, 1 when divided by k', () => {
    const balanced = [
      [1, 1, 0, 0],
      [0, 0, 1, 1],
    ];
    expect(valueOf(loadBalanceLoss({ pooling: 'pooled' }), [balanced], 2)).toBeCloseTo(2, 5);
    expect(valueOf(loadBalanceLoss({ pooling: 'per-layer', divideByTopK: true }), [balanced], 2)).toBeCloseTo(
      1,
      5,
    );
  });

  it('skips padded tokens as if they were not there', () => {
    const loss = loadBalanceLoss({ pooling: 'pooled' });
    const padded = statisticsOf(loss, [...reference, [9, 9, -9, 0]], 2, Uint8Array.of(1, 1, 1, 1, 0));
    expect(loss.value([padded])).toBeCloseTo(2.591781, 5);
  });

  it('needs whole sequences', () => {
    expect(() => loadBalanceLoss({ pooling: 'per-sequence' })).toThrow(
      'must be an integer of at least 1 for per-sequence, got undefined',
    );
    const loss = loadBalanceLoss({ pooling: 'per-sequence', sequenceTokens: 3 });
    expect(() => observe(reference, 2, (observation) => loss.statistics(observation))).toThrow(
      'must divide tokens 4, got 3',
    );
  });
});

describe('statistics', () => {
  it('read every layer and loss at once, in order', () => {
    const losses = [loadBalanceLoss({ pooling: 'pooled' }), zLoss()];
    observe(reference, 2, (observation) => {
      const all = losses.map((loss) => loss.statistics(observation));
      const together = readStatistics(all);
      const alone = all.map((entry) => readStatistics([entry])[0]);
      expect(together).toEqual(alone);
      expect(together.map((entry) => entry.sums.length)).toEqual([4, 1]);
      expect([...together[0]!.counts]).toEqual([4, 8, 4, 2, 1, 1]);
      disposeTree(all);
    });
    expect(readStatistics([])).toEqual([]);
  });

  it('of different losses cannot be added', () => {
    const [left, right] = [loadBalanceLoss({ pooling: 'pooled' }), zLoss()].map((loss) =>
      statisticsOf(loss, reference, 2),
    );
    expect(() => addStatistics(left!, right!)).toThrow('statistics.counts: must have 6 entries, got 1');
  });
});

describe('takeLossGradients', () => {
  it('adds what is there and frees what it took', () => {
    const tensors = [tensor2d([[1, 2]]), tensor2d([[10, 20]]), tensor2d([[5, 6]])];
    const total = takeLossGradients([
      { dscores: tensors[0]! },
      { dscores: tensors[1]!, dlogits: tensors[2]! },
    ]);
    expect([...readHostSync(total.dscores!)]).toEqual([11, 22]);
    expect([...readHostSync(total.dlogits!)]).toEqual([5, 6]);
    expect(tensors.map((tensor) => tensor.isDisposed)).toEqual([true, true, false]);
    expect(takeLossGradients([])).toEqual({});
    disposeTree(total);
  });
});
