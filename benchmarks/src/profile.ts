/**
 * @file Where the time of a training step and of a decoded token goes, operator by operator, with the matmul rate of
 * the same shapes as the limit, and the number of operators per layer.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/profile.ts`
 */
import { estimateFlops, generate } from '@moebius/model';
import {
  createEngine,
  disposeTree,
  linearForward,
  profileOperations,
  tensor2d,
  type OperationCost,
  type Tensor2D,
} from '@moebius/tensor';

import { benchmarkArguments } from './arguments.ts';
import { createOwnModel, sizes, type OwnModel, type Size } from './language-models.ts';
import { markdownTable, spreadOf, takeBenchmarkLock, writeResult } from './measure.ts';

const { smoke } = benchmarkArguments();
const engine = await createEngine({ engine: 'native' });
const repetitions = smoke ? 1 : 9;
const release = smoke ? () => undefined : takeBenchmarkLock();
const sections: string[] = [];
const data: Record<string, unknown> = {};
for (const size of smoke ? [sizes.tiny] : [sizes.d256, sizes.d512]) {
  const own = createOwnModel(size);
  const train = await profileTraining(own, size);
  const decode = await profileDecoding(own);
  own.dispose();
  data[size.name] = { train, decode };
  sections.push(trainSection(size, own, train), decodeSection(size, decode));
}
release();
if (smoke) console.log('profile: smoke run finished');
else {
  const path = writeResult({
    topic: 'profile',
    claim: 'where a training step and a decoded token go, and what the limit is',
    versions: engine.versions,
    body: sections.join('\n\n'),
    data,
  });
  console.log(`${sections.join('\n\n')}\nwritten: ${path}`);
}

interface Profile {
  readonly seconds: number;
  readonly costs: readonly OperationCost[];
}

async function profileTraining(own: OwnModel, { batch, sequence }: Size): Promise<Profile> {
  for (let warmUp = 0; warmUp < (smoke ? 1 : 4); warmUp++) own.trainStep(batch, sequence);
  const seconds: number[] = [];
  const all: OperationCost[][] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const costs = await profileOperations(
      () => seconds.push(own.trainStep(batch, sequence)),
      () => performance.now(),
    );
    all.push([...costs]);
  }
  return { seconds: spreadOf(seconds).median, costs: medianCosts(all) };
}

async function profileDecoding(own: OwnModel): Promise<Profile> {
  const count = smoke ? 4 : 64;
  const seconds: number[] = [];
  const all: OperationCost[][] = [];
  for (let repetition = 0; repetition < repetitions + 1; repetition++) {
    const tokens = generate(own.model, [1, 2, 3], { maxNewTokens: count + 1, stopTokens: [] });
    await tokens.next();
    const began = performance.now();
    const costs = await profileOperations(
      async () => {
        for (let made = 0; made < count; made++) await tokens.next();
      },
      () => performance.now(),
    );
    seconds.push((performance.now() - began) / 1000 / count);
    all.push(
      costs.map((cost) => ({ ...cost, calls: cost.calls / count, milliseconds: cost.milliseconds / count })),
    );
    await tokens.return();
  }
  return { seconds: spreadOf(seconds).median, costs: medianCosts(all) };
}

function medianCosts(all: readonly (readonly OperationCost[])[]): OperationCost[] {
  const names = new Set(all.flatMap((costs) => costs.map(({ name }) => name)));
  return [...names]
    .map((name) => {
      const found = all.flatMap((costs) => costs.filter((cost) => cost.name === name));
      return {
        name,
        calls: found[0]?.calls ?? 0,
        milliseconds: spreadOf(found.map((cost) => cost.milliseconds)).median,
      };
    })
    .toSorted((left, right) => right.milliseconds - left.milliseconds);
}

function trainSection(size: Size, own: OwnModel, { seconds, costs }: Profile): string {
  const flops = estimateFlops(own.model.config, { batch: size.batch, sequence: size.sequence }).train;
  const rate = matmulRate(size);
  const limit = flops / rate;
  const inOperators = costs.reduce((sum, cost) => sum + cost.milliseconds, 0);
  return [
    `## Training step: ${size.name}, ${size.batch}×${size.sequence} tokens`,
    '',
    `${(seconds * 1000).toFixed(0)} ms a step, ${(flops / 1e9).toFixed(1)} GFLOP: ${(flops / seconds / 1e9).toFixed(0)} GFLOP/s. ` +
      `One plain product of T=${size.batch * size.sequence} rows at these widths runs at ${(rate / 1e9).toFixed(0)} GFLOP/s here; at that rate the step would take ${(limit * 1000).toFixed(0)} ms (${((100 * limit) / seconds).toFixed(0)} % of the limit reached). ` +
      `${inOperators.toFixed(0)} ms are inside operators, ${(seconds * 1000 - inOperators).toFixed(0)} ms outside (plans on the host, JavaScript).`,
    '',
    costTable(costs, seconds),
  ].join('\n');
}

function decodeSection(size: Size, { seconds, costs }: Profile): string {
  const layers = Number(size.config['num_hidden_layers']);
  const calls = costs.reduce((sum, cost) => sum + cost.calls, 0);
  const inOperators = costs.reduce((sum, cost) => sum + cost.milliseconds, 0);
  return [
    `## One decoded token, b=1: ${size.name}`,
    '',
    `${(seconds * 1000).toFixed(2)} ms a token; ${calls.toFixed(0)} operators, ${(calls / layers).toFixed(1)} per layer; ${inOperators.toFixed(2)} ms inside them.`,
    '',
    costTable(costs, seconds),
  ].join('\n');
}

function costTable(costs: readonly OperationCost[], seconds: number): string {
  const rows = costs
    .slice(0, 16)
    .map(({ name, calls, milliseconds }) => [
      name,
      calls.toFixed(0),
      milliseconds.toFixed(milliseconds < 10 ? 3 : 1),
      `${((100 * milliseconds) / (seconds * 1000)).toFixed(1)} %`,
    ]);
  return markdownTable(['operator', 'calls', 'ms', 'share'], rows);
}

/** FLOP/s of one `[T, D] × [F, D]ᵀ` product. */
function matmulRate(size: Size): number {
  const [tokens, width, hidden] = [
    size.batch * size.sequence,
    Number(size.config['hidden_size']),
    Number(size.config['moe_intermediate_size']),
  ];
  const filled = (rows: number): Tensor2D =>
    tensor2d(
      Float32Array.from({ length: rows * width }, (_, at) => ((at * 37) % 101) / 101),
      [rows, width],
    );
  const [x_TD, weight_FD] = [filled(tokens), filled(hidden)];
  const seconds = Array.from({ length: smoke ? 2 : 40 }, () => {
    const began = performance.now();
    disposeTree(linearForward(x_TD, weight_FD));
    return (performance.now() - began) / 1000;
  });
  disposeTree([x_TD, weight_FD]);
  return (2 * tokens * width * hidden) / spreadOf(seconds).median;
}
