/**
 * @file Claim: planning a capacity costs at most 3 % of the forward pass of its layer. Planning depends on tokens T, experts E and top-k; the
 * layer beside it also on the width D and the experts' width F.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/capacity-planning.ts`
 */
import { runSync } from '@moebius/core';
import {
  capacityPolicy,
  gateForward,
  parseCapacityConfig,
  planCapacity,
  type CapacityPolicy,
  type DispatchPlan,
} from '@moebius/routing';
import { createEngine, disposeTree, readHostSync } from '@moebius/tensor';

import { benchmarkArguments, milliseconds } from './arguments.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult, type Spread } from './measure.ts';
import { createSampleLayer, type LayerSize } from './sample-layer.ts';

const table: readonly LayerSize[] = [
  { tokens: 2048, experts: 64, topK: 8, width: 512, hidden: 1024 },
  { tokens: 512, experts: 64, topK: 8, width: 512, hidden: 1024 },
  { tokens: 2048, experts: 64, topK: 2, width: 512, hidden: 1024 },
  { tokens: 2048, experts: 16, topK: 4, width: 512, hidden: 1024 },
  { tokens: 2048, experts: 128, topK: 8, width: 512, hidden: 256 },
  { tokens: 2048, experts: 16, topK: 4, width: 256, hidden: 256 },
  { tokens: 8192, experts: 64, topK: 8, width: 256, hidden: 256 },
];

const placement = { devices: 8 };
const methods: Readonly<Record<string, object>> = {
  score: { method: 'drop', gamma: 1 },
  order: { method: 'drop', gamma: 1, key: 'order' },
  random: { method: 'drop', gamma: 1, key: 'random' },
  'expanded, local': { method: 'drop', gamma: 1, scope: 'rank', expand: { kind: 'local' }, placement },
  'over-selection, 2k': { method: 'drop', gamma: 1, expand: { kind: 'top-m', m: 0 } },
  device: { method: 'drop', gamma: 1, scope: 'rank', granularity: 'device', placement },
  'reroute, 3 rounds': { method: 'reroute', gamma: 1 },
};
const limit = 0.03;

const { smoke, rounds } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
if (smoke) {
  const spreads = await measure({ tokens: 64, experts: 16, topK: 2, width: 16, hidden: 8 });
  console.log(`capacity-planning: smoke run finished, ${Object.keys(spreads).length} rows`);
} else await fullRun();

async function fullRun(): Promise<void> {
  const release = takeBenchmarkLock();
  try {
    const data: { size: LayerSize; spreads: Record<string, Spread> }[] = [];
    for (const size of table) {
      data.push({ size, spreads: await measure(size) });
      console.error(JSON.stringify(data.at(-1)));
    }
    const names = Object.keys(methods);
    const body = [
      `Milliseconds, median of ${rounds} interleaved repetitions on skewed scores at γ = 1. *read*: copying the scores to the host. Methods: from the dropless plan to the capped one. *layer*: gate and experts, forward, dropless. *share*: read + score, of the layer.`,
      '',
      markdownTable(
        ['T', 'E', 'k', 'D', 'F', 'read', ...names, 'layer', 'share'],
        data.map(({ size, spreads }) => row(size, spreads, names)),
      ),
      '',
      verdict(data),
    ].join('\n');
    const claim =
      'planning a capacity costs at most 3 % of its layer’s forward pass (T=2048 E=64 k=8 D=512 F=1024)';
    const path = writeResult({ topic: 'capacity-planning', claim, versions: engine.versions, body, data });
    console.log(`${body}\nwritten: ${path}`);
  } finally {
    release();
  }
}

function shareOf(spreads: Record<string, Spread>, method: string): number {
  const median = (name: string): number => spreads[name]?.median ?? Number.NaN;
  return (median('read') + median(method)) / median('layer');
}

function row(
  size: LayerSize,
  spreads: Record<string, Spread>,
  names: readonly string[],
): (string | number)[] {
  const { tokens, experts, topK, width, hidden } = size;
  const cells = ['read', ...names, 'layer'].map((name) => milliseconds(spreads[name]?.median ?? Number.NaN));
  return [
    tokens,
    experts,
    topK,
    width,
    hidden,
    ...cells,
    `${(100 * shareOf(spreads, 'score')).toFixed(2)} %`,
  ];
}

function verdict(data: readonly { spreads: Record<string, Spread> }[]): string {
  const first = data[0]?.spreads ?? {};
  const shares = Object.keys(methods).map((name) => `${name} ${(100 * shareOf(first, name)).toFixed(2)} %`);
  const held = shareOf(first, 'score') <= limit;
  return `At the claimed size: ${shares.join(', ')}. The claim ${held ? 'holds' : 'does not hold'} for Token Drop by score.`;
}

/** Seconds of every method, of the read, and of the layer. */
async function measure(size: LayerSize): Promise<Record<string, Spread>> {
  const layer = createLayer(size);
  const { experts, topK } = size;
  const scores = layer.scores();
  const dropless = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: Infinity }));
  const primary = planCapacity(scores, { experts, topK, policy: dropless });
  const timed = (policy: CapacityPolicy): (() => number) => {
    return () => {
      const began = performance.now();
      const plan: DispatchPlan = policy.plan({ scores, primary });
      if (plan.tokens !== size.tokens) throw new Error('plan: must cover the tokens');
      return (performance.now() - began) / 1000;
    };
  };
  const contestants: Record<string, () => number> = {
    read: () => {
      const began = performance.now();
      layer.scores();
      return (performance.now() - began) / 1000;
    },
    layer: () => layer.step(),
  };
  for (const [name, settings] of Object.entries(methods)) {
    const expand = name.startsWith('over-selection')
      ? { expand: { kind: 'top-m', m: Math.min(2 * topK, experts) } }
      : {};
    contestants[name] = timed(capacityPolicy(parseCapacityConfig({ ...settings, ...expand })));
  }
  const spreads = await interleave(contestants, { rounds, warmUp: smoke ? 1 : 5 });
  layer.dispose();
  return spreads;
}

/** The scores a policy plans with, and the layer's forward pass beside it. */
function createLayer(size: LayerSize): { scores(): Float32Array; step(): number; dispose(): void } {
  const { config, router, x_TD, source, executor, dispose } = createSampleLayer(size);
  const sample = gateForward(x_TD, { weight: router }, { config });
  const scores_TE = sample.scores;
  return {
    scores: () => Float32Array.from(readHostSync(scores_TE)),
    step() {
      const began = performance.now();
      const gate = gateForward(x_TD, { weight: router }, { config });
      const { y, saved } = runSync(
        executor.forward({ layer: 0, hidden: x_TD, route: gate.route, experts: source }),
      );
      y.dataSync();
      disposeTree({ gate, y, saved });
      return (performance.now() - began) / 1000;
    },
    dispose() {
      dispose();
      disposeTree(sample);
    },
  };
}
