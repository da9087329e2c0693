/**
 * @file Claim: live tensors are flat over 500 training steps, resident memory is flat after warm-up, and the peak stands
 * beside the estimate.
 *
 * V8 lets garbage of finished steps lie until its heap has grown enough; before each reading it is collected, so that
 * the numbers show what is held, not when the collector happened to run.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/memory.ts`
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { estimateBytes } from '@moebius/model';
import { createEngine, memory } from '@moebius/tensor';

import { benchmarkArguments } from './arguments.ts';
import { createOwnModel, sizes } from './language-models.ts';
import { markdownTable, takeBenchmarkLock, writeResult } from './measure.ts';

const { smoke } = benchmarkArguments();
const size = smoke ? sizes.tiny : sizes.d256;
const [batch, sequence] = smoke ? [size.batch, size.sequence] : [2, 128];
const steps = smoke ? 20 : 500;
const warmUp = smoke ? 5 : 50;
const mebibyte = 2 ** 20;
const allowedGrowthMiB = 16;
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const engine = await createEngine({ engine: 'native' });
const release = smoke ? () => undefined : takeBenchmarkLock();
const own = createOwnModel(size);
const rows: { step: number; tensors: number; heapMiB: number; rssMiB: number }[] = [];
let peakRss = 0;
for (let step = 0; step <= steps; step++) {
  if (step > 0) own.trainStep(batch, sequence);
  peakRss = Math.max(peakRss, process.memoryUsage.rss());
  if (step % (steps / 10) === 0 || step === warmUp) {
    collectGarbage();
    const { rss, heapUsed } = process.memoryUsage();
    rows.push({
      step,
      tensors: memory().numTensors,
      heapMiB: Math.round(heapUsed / mebibyte),
      rssMiB: Math.round(rss / mebibyte),
    });
    console.error(JSON.stringify(rows.at(-1)));
  }
}
const settled = rows.filter(({ step }) => step >= warmUp);
const tensorCounts = new Set(settled.map(({ tensors }) => tensors));
const growth = Math.max(...settled.map(({ rssMiB }) => rssMiB)) - (settled[0]?.rssMiB ?? 0);
if (tensorCounts.size !== 1)
  throw new Error(`live tensors: must be flat after step ${warmUp}, got ${[...tensorCounts].join(', ')}`);
if (growth > allowedGrowthMiB) {
  throw new Error(
    `resident memory: must grow by at most ${allowedGrowthMiB} MiB after step ${warmUp}, got ${growth}`,
  );
}
const estimate = estimateBytes(own.model.config, { batch, sequence });
own.dispose();
release();
if (smoke) console.log(`memory: smoke run finished, ${[...tensorCounts].join()} live tensors`);
else report();

function report(): void {
  const body = [
    `${size.name}, ${batch}×${sequence} tokens a step. Resident memory grew ${growth} MiB between step ${warmUp} and step ${steps}; peak ${Math.round(peakRss / mebibyte)} MiB. ` +
      `\`estimateBytes\` says: ${Object.entries(estimate)
        .map(([name, bytes]) => `${name} ${Math.round(Number(bytes) / mebibyte)} MiB`)
        .join(', ')}. ` +
      'The process itself (Node, TensorFlow’s library, the allocator’s free lists) is not in the estimate; it is the first row.',
    '',
    markdownTable(
      ['step', 'live tensors', 'JavaScript heap, MiB', 'resident, MiB'],
      rows.map((row) => [row.step, row.tensors, row.heapMiB, row.rssMiB]),
    ),
  ].join('\n');
  const path = writeResult({
    topic: 'memory',
    claim: 'live tensors flat over 500 steps, RSS flat after warm-up; peak RSS beside the estimate',
    versions: engine.versions,
    body,
    data: { rows, estimate, peakRss },
  });
  console.log(`${body}\nwritten: ${path}`);
}
