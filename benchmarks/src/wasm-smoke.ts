/**
 * @file Claim: the `smoke` recipe on wasm reaches the native run's losses within tolerance; the speed of both.
 *
 * The same configuration, seed and text; one process per engine, since a process has one engine. Losses drift apart
 * slowly, because sums are taken in another order and a near-tie may choose another expert.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/wasm-smoke.ts` (after a build)
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { benchmarkArguments } from './arguments.ts';
import { markdownTable, spreadOf, writeResult } from './measure.ts';

const tolerance = { firstStep: 1e-4, everyStep: 0.05 };
const { smoke: isSmoke } = benchmarkArguments();
const folder = mkdtempSync(join(tmpdir(), 'moebius-wasm-smoke-'));
try {
  const native = run('native');
  const wasm = run('wasm');
  const differences = native.losses.map((loss, at) => Math.abs(loss - (wasm.losses[at] ?? Number.NaN)));
  const [first = Number.NaN] = differences;
  const worst = Math.max(...differences);
  if (!(first <= tolerance.firstStep))
    throw new Error(`first step: losses must differ by at most ${tolerance.firstStep}, got ${first}`);
  if (!(worst <= tolerance.everyStep))
    throw new Error(`losses: must differ by at most ${tolerance.everyStep}, got ${worst}`);
  console.log(
    `wasm-smoke: losses differ by ${first.toExponential(1)} at the first step, at most ${worst.toExponential(1)}`,
  );
  if (!isSmoke) report(native, wasm, { first, worst });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

interface Run {
  readonly losses: readonly number[];
  readonly stepMs: number;
  readonly bits: number;
}

function run(engine: string): Run {
  const out = join(folder, engine);
  const cli = new URL('../../apps/trainer/dist/cli.js', import.meta.url).pathname;
  const steps = isSmoke ? ['--steps', '5'] : [];
  const { status, stderr } = spawnSync(
    process.execPath,
    [cli, 'train', '--recipe', 'smoke', '--engine', engine, '--out', out, ...steps],
    { encoding: 'utf8' },
  );
  if (status !== 0)
    throw new Error(`moebius train on ${engine}: must end with code 0, got ${status}: ${stderr}`);
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>);
  const trained = lines.filter((line) => line['train/loss'] !== undefined);
  return {
    losses: trained.map((line) => line['train/loss'] ?? Number.NaN),
    stepMs: spreadOf(trained.slice(3).map((line) => line['train/step_ms'] ?? Number.NaN)).median,
    bits:
      lines.findLast((line) => line['eval/bits_per_byte'] !== undefined)?.['eval/bits_per_byte'] ??
      Number.NaN,
  };
}

function report(native: Run, wasm: Run, difference: { first: number; worst: number }): void {
  const row = (name: string, { losses, stepMs, bits }: Run): (string | number)[] => [
    name,
    (losses[0] ?? Number.NaN).toFixed(5),
    (losses.at(-1) ?? Number.NaN).toFixed(5),
    bits.toFixed(4),
    stepMs.toFixed(1),
  ];
  const body = [
    markdownTable(
      ['engine', 'first loss', 'last loss', 'held-out bits per byte', 'step, ms (median)'],
      [row('native', native), row('wasm', wasm)],
    ),
    '',
    `Losses differ by ${difference.first.toExponential(1)} at the first step and by at most ${difference.worst.toExponential(1)} over ${native.losses.length} steps (allowed: ${tolerance.firstStep} and ${tolerance.everyStep}).`,
  ].join('\n');
  const path = writeResult({
    topic: 'wasm-smoke',
    claim: 'smoke on wasm reaches the native run’s losses within tolerance',
    versions: {},
    body,
    data: { native, wasm, difference, tolerance },
  });
  console.log(`${body}\nwritten: ${path}`);
}
