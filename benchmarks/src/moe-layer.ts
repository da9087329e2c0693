/**
 * @file Claim: one MoE layer (gate, dispatch, experts, combine), forward and backward, beside PyTorch's, over
 * experts E, model width D, expert width F, top-k and tokens T.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/moe-layer.ts`
 */
import { runSync } from '@moebius/core';
import { gateBackward, gateForward } from '@moebius/routing';
import { add, createEngine, disposeTree, ones, type Tensor2D } from '@moebius/tensor';

import { benchmarkArguments, milliseconds, times } from './arguments.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult, type Spread } from './measure.ts';
import { peerPython, startPeer, type Peer } from './peer.ts';
import { createSampleLayer, type LayerSize } from './sample-layer.ts';

const table: readonly LayerSize[] = [
  { experts: 16, width: 256, hidden: 256, topK: 4, tokens: 2048 },
  { experts: 64, width: 256, hidden: 256, topK: 2, tokens: 2048 },
  { experts: 64, width: 256, hidden: 128, topK: 8, tokens: 2048 },
  { experts: 16, width: 512, hidden: 1024, topK: 2, tokens: 2048 },
  { experts: 16, width: 512, hidden: 512, topK: 4, tokens: 512 },
  { experts: 8, width: 1024, hidden: 2048, topK: 2, tokens: 512 },
  { experts: 16, width: 256, hidden: 256, topK: 4, tokens: 64 },
  { experts: 16, width: 256, hidden: 256, topK: 4, tokens: 1 },
];
const implementations = ['eager', 'grouped_mm'] as const;

const { smoke, rounds } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
if (smoke) {
  const layer = createLayer({ experts: 4, width: 16, hidden: 8, topK: 2, tokens: 8 });
  layer.step();
  layer.dispose();
  console.log('moe-layer: smoke run finished');
} else await fullRun();

async function fullRun(): Promise<void> {
  const python = peerPython();
  if (python === undefined)
    throw new Error('peer: benchmarks/peers/venv must exist (see benchmarks/README.md)');
  const release = takeBenchmarkLock();
  const peer = startPeer(python);
  const data: { size: LayerSize; spreads: Record<string, Spread> }[] = [];
  try {
    const versions = await peer.ask({ do: 'versions' });
    for (const size of table) {
      data.push({ size, spreads: await compare(size, peer) });
      console.error(JSON.stringify(data.at(-1)));
    }
    const body = [
      'Milliseconds, forward + backward, median of interleaved repetitions; the peer is the better of transformers’ eager and grouped_mm experts.',
      '',
      markdownTable(
        [
          'E',
          'D',
          'F',
          'k',
          'T',
          'Moebius',
          'PyTorch eager',
          'PyTorch grouped_mm',
          'against the faster',
          'GFLOP/s',
        ],
        data.map(({ size, spreads }) => row(size, spreads)),
      ),
    ].join('\n');
    const path = writeResult({
      topic: 'moe-layer',
      claim: 'one MoE layer, forward and backward, beside PyTorch over (E, D, F, k, T)',
      versions: {
        ...engine.versions,
        torch: String(versions['torch']),
        transformers: String(versions['transformers']),
      },
      body,
      data,
    });
    console.log(`${body}\nwritten: ${path}`);
  } finally {
    await peer.close();
    release();
  }
}

async function compare(size: LayerSize, peer: Peer): Promise<Record<string, Spread>> {
  const layer = createLayer(size);
  const contestants: Record<string, () => Promise<number>> = { moebius: async () => layer.step() };
  for (const implementation of implementations) {
    contestants[implementation] = async () => {
      const { seconds } = await peer.ask({ do: 'layer', ...size, implementation });
      if (seconds === undefined) throw new Error('peer: the answer must carry seconds');
      return seconds;
    };
  }
  const spreads: Record<string, Spread> = {};
  for (const implementation of implementations) {
    const pair = { moebius: contestants['moebius'], [implementation]: contestants[implementation] };
    Object.assign(
      spreads,
      await interleave(pair as Record<string, () => Promise<number>>, { rounds, warmUp: 3 }),
    );
  }
  layer.dispose();
  return spreads;
}

function row(size: LayerSize, spreads: Record<string, Spread>): (string | number)[] {
  const median = (name: string): number => spreads[name]?.median ?? Number.NaN;
  const { experts, width, hidden, topK, tokens } = size;
  const flops = 3 * 2 * tokens * topK * 3 * width * hidden;
  const best = Math.min(...implementations.map(median));
  return [
    experts,
    width,
    hidden,
    topK,
    tokens,
    milliseconds(median('moebius')),
    milliseconds(median('eager')),
    milliseconds(median('grouped_mm')),
    times(best / median('moebius')),
    (flops / median('moebius') / 1e9).toFixed(0),
  ];
}

interface Layer {
  step(): number;
  dispose(): void;
}

function createLayer(size: LayerSize): Layer {
  const { config, router, x_TD, source, executor, dispose } = createSampleLayer(size);
  const dy_TD = ones([size.tokens, size.width]) as Tensor2D;
  return {
    step() {
      const began = performance.now();
      const gate = gateForward(x_TD, { weight: router }, { config });
      const { y, saved } = runSync(
        executor.forward({ layer: 0, hidden: x_TD, route: gate.route, experts: source }),
      );
      const gradients = runSync(executor.backward(saved, dy_TD));
      const fromWeights = gradients.route.kind === 'pairs' ? { dweights: gradients.route.weights } : {};
      const back = gateBackward(gate.saved, fromWeights);
      const dx_TD = add<Tensor2D>(gradients.hidden, back.dx);
      dx_TD.dataSync();
      disposeTree({ gate, y, saved, gradients, back, dx_TD });
      return (performance.now() - began) / 1000;
    },
    dispose() {
      dispose();
      dy_TD.dispose();
    },
  };
}
