/**
 * @file What mattered for the `reference` run: one setting changed at a time, every run over the same number of tokens,
 * so that the table does not depend on what else the machine does. Short runs rank settings that act early; they say
 * nothing about overfitting.
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/reference-ablation.ts` (needs `npm run build`; goes on
 * where it was stopped; `--only finished` writes the table of the runs that are there)
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { benchmarkArguments } from './arguments.ts';
import { markdownTable, writeResult } from './measure.ts';

interface Variant {
  readonly name: string;
  readonly flags: readonly string[];
  /** Tokens of a step, where they are not the recipe's. */
  readonly tokensPerStep?: number;
}

const recipeTokensPerStep = 2048;
const variants: readonly Variant[] = [
  { name: 'the recipe (4×512, peak rate 0.003, cosine to 2 %)', flags: [] },
  { name: 'peak rate 0.0015', flags: ['--lr', '0.0015'] },
  { name: 'peak rate 0.006', flags: ['--lr', '0.006'] },
  { name: 'sequences of 256 (8×256)', flags: ['--batch', '8', '--sequence', '256'] },
  { name: 'twice the batch (8×512)', flags: ['--batch', '8'], tokensPerStep: 4096 },
  { name: 'half the batch (2×512)', flags: ['--batch', '2'], tokensPerStep: 1024 },
  {
    name: '8 experts, 2 chosen, twice as wide',
    flags: shape({ num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 512 }),
  },
  { name: '32 experts, 4 chosen', flags: shape({ num_experts: 32 }) },
  { name: '6 layers, D=320', flags: shape({ num_hidden_layers: 6, hidden_size: 320, head_dim: 40 }) },
  { name: 'no balance loss', flags: ['--set', 'losses.loadBalance=0'] },
  { name: 'weight decay 0', flags: ['--set', 'optimizer.weightDecay=0'] },
  { name: 'schedule: warm-up, stable, decay', flags: ['--set', 'schedule.kind=wsd'] },
];

const { smoke, only } = benchmarkArguments();
const tokens = smoke ? 4096 : 512_000;
const folder = smoke ? mkdtempSync(join(tmpdir(), 'moebius-ablation-')) : 'runs/ablation';
const cli = new URL('../../apps/trainer/dist/cli.js', import.meta.url).pathname;
const wanted = smoke
  ? variants.slice(0, 2)
  : variants.filter((variant) => only !== 'finished' || isFinished(logOf(variant)));
const rows = wanted.map((variant) => ({ ...variant, ...measure(variant) }));
if (smoke) {
  rmSync(folder, { recursive: true });
  console.log('reference-ablation: smoke run finished');
} else {
  const [recipe] = rows;
  if (recipe === undefined) throw new Error('reference-ablation: must have a first variant, got none');
  const table = markdownTable(
    ['setting', 'held-out bits per byte', 'against the recipe', 'parameters (active), million'],
    rows.map(({ name, bits, parameters, activeParameters }) => [
      name,
      bits.toFixed(4),
      signed(bits - recipe.bits),
      `${(parameters / 1e6).toFixed(1)} (${(activeParameters / 1e6).toFixed(1)})`,
    ]),
  );
  writeResult({
    topic: 'reference-ablation',
    claim: `which settings of the reference run matter in its first ${(tokens / 1e6).toFixed(1)} million tokens (a schedule of that length, seed 0, one run each)`,
    versions: {},
    body: table,
    data: rows,
  });
  console.log(table);
}

interface Measured {
  readonly bits: number;
  readonly parameters: number;
  readonly activeParameters: number;
}

function measure(variant: Variant): Measured {
  const { name, flags, tokensPerStep = recipeTokensPerStep } = variant;
  const out = outputOf(variant);
  const log = logOf(variant);
  const steps = Math.round(tokens / tokensPerStep);
  if (!isFinished(log)) {
    const run = [
      'train',
      '--recipe',
      'reference',
      '--steps',
      String(steps),
      '--out',
      out,
      '--overwrite',
      '--no-sample',
    ];
    const small = smoke ? shape({ num_hidden_layers: 1, hidden_size: 64, head_dim: 8 }) : [];
    const quick = [
      '--set',
      'checkpoint.everySteps=100000',
      ...(smoke ? ['--set', 'evaluation.finalTokens=4096'] : []),
    ];
    execFileSync(process.execPath, [cli, ...run, ...quick, ...flags, ...small, '--json'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  const lines = readLines(log);
  const bits = lines.map((line) => line['eval/bits_per_byte']).findLast((value) => typeof value === 'number');
  if (typeof bits !== 'number')
    throw new Error(`reference-ablation: ${log} must hold an evaluation, got none`);
  const inspect = execFileSync(process.execPath, [cli, 'inspect', out, '--json'], { encoding: 'utf8' });
  const { parameters, activeParameters } = findCounts(JSON.parse(inspect));
  console.error(`${name}: ${bits.toFixed(4)}`);
  return { bits, parameters, activeParameters };
}

function outputOf({ name }: Variant): string {
  return join(folder, name.replaceAll(/[^a-z0-9]+/giu, '-'));
}

function logOf(variant: Variant): string {
  return join(outputOf(variant), 'metrics.jsonl');
}

function isFinished(log: string): boolean {
  return existsSync(log) && readLines(log).some((line) => 'eval/baselines' in line);
}

function readLines(log: string): readonly Record<string, unknown>[] {
  return readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

function findCounts(report: unknown): Omit<Measured, 'bits'> {
  const { parameters, activeParameters } = report as { parameters: number; activeParameters: number };
  if (typeof parameters !== 'number' || typeof activeParameters !== 'number')
    throw new Error('reference-ablation: inspect must count parameters');
  return { parameters, activeParameters };
}

function shape(fields: { readonly [name: string]: number }): string[] {
  return Object.entries(fields).flatMap(([name, value]) => ['--set', `model.${name}=${value}`]);
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
}
