/**
 * @file What a capacity buys in one process, without ranks: the wall time of a layer whose loads are skewed, dropless and under a cap, beside
 * the time that devices would wait for the busiest of them. One process computes all experts one after the other, so a cap saves the
 * work of what it drops and costs its planning; the straggler is not there to be shortened.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/capacity-wall-time.ts`
 */
import { createRng, runSync } from '@moebius/core';
import { gatedExpert, parseCapacityConfig, capacityPolicy, topKRouter, withCapacity } from '@moebius/routing';
import type { DispatchPlan, Router } from '@moebius/routing';
import { createLatencyModel, measureExpertTimes } from '@moebius/routing/latency';
import type { ExpertTimes } from '@moebius/routing/latency';
import { createEngine, disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import { benchmarkArguments, milliseconds, times } from './arguments.ts';
import { interleave, markdownTable, takeBenchmarkLock, writeResult, type Spread } from './measure.ts';
import { createSampleLayer, type LayerSize } from './sample-layer.ts';

const size: LayerSize = { tokens: 2048, experts: 64, topK: 8, width: 512, hidden: 1024 };
const tiny: LayerSize = { tokens: 64, experts: 16, topK: 2, width: 16, hidden: 8 };
/** Multiplies a slope over the experts' logits: 0 is even use. */
const skews: readonly number[] = [0, 1, 3];
const devices = 8;
const placement = { devices };
const settings: Readonly<Record<string, object | null>> = {
  dropless: null,
  'token, γ = 2': { method: 'drop', gamma: 2, scope: 'rank', placement },
  'token, γ = 1.5': { method: 'drop', gamma: 1.5, scope: 'rank', placement },
  'token, γ = 1': { method: 'drop', gamma: 1, scope: 'rank', placement },
  'expanded, γ = 1.5': { method: 'drop', gamma: 1.5, scope: 'rank', expand: { kind: 'local' }, placement },
  'device, γ = 1.5': { method: 'drop', gamma: 1.5, scope: 'rank', granularity: 'device', placement },
};

interface Row {
  readonly skew: number;
  readonly setting: string;
  readonly seconds: Spread;
  readonly pairs: number;
  readonly peak: number;
  /** Seconds of the slowest of eight devices, from the measured table. */
  readonly predicted: number;
}

const { smoke, rounds } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
if (smoke) {
  console.log(`capacity-wall-time: smoke run finished, ${(await measure(tiny, 1)).length} rows`);
} else await fullRun();

async function fullRun(): Promise<void> {
  const release = takeBenchmarkLock();
  try {
    const data: Row[] = [];
    for (const skew of skews) data.push(...(await measure(size, skew)));
    const { tokens, experts, topK, width, hidden } = size;
    const body = [
      `One layer, forward: gate, plan and experts, T=${tokens} E=${experts} k=${topK} D=${width} F=${hidden}, median of ${rounds} interleaved repetitions. *peak*: largest over mean load. *one process*: wall time, and dropless over it. *${devices} devices*: time of the experts of the slowest of ${devices} devices, predicted from one expert timed alone on this machine, and dropless over it; no rank was run.`,
      markdownTable(
        ['skew', 'setting', 'peak', 'pairs', 'one process, ms', 'gain', `${devices} devices, ms`, 'gain'],
        data.map((row) => cells(row, data)),
      ),
      verdict(data),
    ].join('\n\n');
    const path = writeResult({
      topic: 'capacity-wall-time',
      claim: 'what a capacity buys in one process, and what only ranks can gain from it',
      versions: engine.versions,
      body,
      data,
    });
    console.log(`${body}\nwritten: ${path}`);
  } finally {
    release();
  }
}

function cells(row: Row, data: readonly Row[]): (string | number)[] {
  const base = data.find(({ skew, setting }) => skew === row.skew && setting === 'dropless') ?? row;
  return [
    row.skew,
    row.setting,
    row.peak.toFixed(2),
    row.pairs,
    milliseconds(row.seconds.median),
    times(base.seconds.median / row.seconds.median),
    milliseconds(row.predicted),
    times(base.predicted / row.predicted),
  ];
}

/** Said from the numbers: how the gain compares with the work that is left out. */
function verdict(data: readonly Row[]): string {
  const skew = skews.at(-1);
  const find = (setting: string): Row | undefined =>
    data.find((row) => row.skew === skew && row.setting === setting);
  const [dropless, capped] = [find('dropless'), find('token, γ = 1')];
  if (dropless === undefined || capped === undefined) return '';
  const gain = dropless.seconds.median / capped.seconds.median;
  const work = dropless.pairs / capped.pairs;
  const ranks = dropless.predicted / capped.predicted;
  return `At the largest skew and γ = 1, one process is ${times(gain)} as fast while it computes 1/${work.toFixed(2)} of the pairs: what it gains is the work it leaves out, less planning, and it pays for that in loss. ${devices} devices would be ${times(ranks)} as fast in their experts, because all wait for the busiest: that is what a capacity is for, and one process cannot show it. With even loads a capacity buys nothing in either.`;
}

/** Every setting on one layer with loads of one skew. */
async function measure(layerSize: LayerSize, skew: number): Promise<Row[]> {
  const layer = createSampleLayer(layerSize);
  const hidden = skewRows(layer.x_TD, layer.router, skew);
  const expertTimes = timeExperts(layerSize);
  const routers = Object.entries(settings).map(([name, value]): readonly [string, Router] => {
    const router = topKRouter(layer.config);
    const capped = value === null ? router : withCapacity(router, capacityPolicy(parseCapacityConfig(value)));
    return [name, capped];
  });
  const plans = new Map<string, DispatchPlan>();
  const contestants = Object.fromEntries(
    routers.map(([name, router]) => [
      name,
      (): number => {
        const began = performance.now();
        const output = router.forward(hidden, { weight: layer.router }, { layer: 0 });
        const { y, saved } = runSync(
          layer.executor.forward({ layer: 0, hidden, route: output.route, experts: layer.source }),
        );
        y.dataSync();
        const seconds = (performance.now() - began) / 1000;
        if (output.route.kind === 'pairs') plans.set(name, output.route.plan);
        disposeTree({ output, y, saved });
        return seconds;
      },
    ]),
  );
  const spreads = await interleave(contestants, { rounds, warmUp: smoke ? 1 : 3 });
  const rows = routers.map(([name]) => describe({ name, skew, layerSize, expertTimes }, plans, spreads));
  hidden.dispose();
  layer.dispose();
  return rows;
}

interface Described {
  readonly name: string;
  readonly skew: number;
  readonly layerSize: LayerSize;
  readonly expertTimes: ExpertTimes;
}

function describe(
  { name, skew, layerSize: { experts, tokens, topK }, expertTimes }: Described,
  plans: ReadonlyMap<string, DispatchPlan>,
  spreads: Record<string, Spread>,
): Row {
  const plan = plans.get(name);
  const seconds = spreads[name];
  if (plan === undefined || seconds === undefined) throw new Error(`${name}: must have run`);
  const model = createLatencyModel({ experts, placement: { devices, hostOf: null }, times: expertTimes });
  return {
    skew,
    setting: name,
    seconds,
    pairs: plan.stats.pairs,
    peak: (plan.stats.maxLoad * experts) / (tokens * topK),
    predicted: model.layerTime(plan).experts,
  };
}

function timeExperts({ width, hidden, tokens }: LayerSize): ExpertTimes {
  return measureExpertTimes({
    kind: gatedExpert(),
    size: { modelWidth: width, hiddenWidth: hidden },
    clock: { nowMs: () => performance.now() },
    rows: [1, 4, 16, 64, 256, 1024, 2048].filter((rows) => rows <= tokens),
    repetitions: smoke ? 1 : 9,
  });
}

/** Rows moved along a mix of the experts' gate vectors, so that some experts are wanted more: the skew of a trained gate, made by hand. */
function skewRows(x_TD: Tensor2D, router: Tensor2D, skew: number): Tensor2D {
  const [tokens, width] = x_TD.shape;
  const [x, gate] = [x_TD.dataSync(), router.dataSync()];
  const experts = router.shape[0];
  const wanted = new Float32Array(experts);
  createRng([7]).fork('skew').fillNormal(wanted, { standardDeviation: 1 });
  const shift = Float32Array.from({ length: width }, (_, d) => {
    let sum = 0;
    for (let e = 0; e < experts; e += 1) sum += (wanted[e] ?? 0) * (gate[e * width + d] ?? 0);
    return (sum * skew) / 0.02 / Math.sqrt(width);
  });
  const moved = Float32Array.from(x, (value, at) => value + (shift[at % width] ?? 0));
  return tensor2d(moved, [tokens, width]);
}
