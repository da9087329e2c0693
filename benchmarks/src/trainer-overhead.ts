/**
 * @file What the trainer itself costs: data, metrics, events, progress, JSON and TensorBoard, as a share of a step of the
 * `reference` run. Real runs of the real command, one mode after the other in turns, read from their metrics:
 *
 * ```
 *  train/elapsed_ms of step n  -  of step n-1  =  train/step_ms of step n  +  everything outside the step
 *  train/step_ms               =  the sampler's rows (timed here alone)    +  forward, backward, update
 * ```
 *
 * `node --import tsx --conditions=@moebius/source benchmarks/src/trainer-overhead.ts`
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { createEngine } from '@moebius/tensor';
import { createBatchSampler, defaultCacheFolder, parseTrainConfig, prepareDataset } from '@moebius/train';
import type { TrainConfig } from '@moebius/train';

import { benchmarkArguments } from './arguments.ts';
import { markdownTable, spreadOf, takeBenchmarkLock, writeResult } from './measure.ts';

const { smoke, rounds } = benchmarkArguments();
const recipe = smoke ? 'smoke' : 'reference';
const steps = smoke ? 4 : 24;
/** Steps at the start of each run that do not count. */
const warmUp = smoke ? 1 : 4;
const cli = fileURLToPath(new URL('../../apps/trainer/dist/cli.js', import.meta.url));
if (!existsSync(cli))
  throw new Error(`trainer-overhead: must find the built command at ${cli} (npm run build)`);

/** How the command is run, and in front of what. */
interface Mode {
  readonly flags: readonly string[];
  /** Whether stdout is a terminal; `script` of util-linux makes one. */
  readonly isTty: boolean;
}
const hasScript = spawnSync('script', ['--version']).status === 0;
const modes: Record<string, Mode> = {
  'plain lines into a pipe': { flags: [], isTty: false },
  '`--json` into a pipe, `--tensorboard`': { flags: ['--json', '--tensorboard'], isTty: false },
  ...(hasScript ? { 'a terminal, `--tensorboard`': { flags: ['--tensorboard'], isTty: true } } : {}),
};

interface StepLine {
  readonly 'train/step_ms': number;
  readonly 'train/elapsed_ms': number;
}
interface Sample {
  readonly stepMs: number;
  readonly outsideMs: number;
}

const scratch = mkdtempSync(join(tmpdir(), 'moebius-overhead-'));
const release = smoke ? () => undefined : takeBenchmarkLock();
try {
  const engine = await createEngine();
  const config = parseTrainConfig(
    JSON.parse(runCommand(['config', 'print', '--recipe', recipe, '--json'], false)),
  );
  const samplerMs = await timeSampler(config);
  const samples: Record<string, Sample[]> = {};
  for (let round = 0; round < (smoke ? 1 : Math.ceil(rounds / 3)); round++) {
    for (const [name, mode] of Object.entries(modes)) (samples[name] ??= []).push(...train(mode, round));
  }
  report(samples, { samplerMs, config, versions: engine.versions });
} finally {
  release();
  rmSync(scratch, { recursive: true, force: true });
}

/** One run of a mode; its steps, the first ones left out. */
function train({ flags, isTty }: Mode, round: number): Sample[] {
  const out = join(scratch, `run-${round}-${flags.length}-${isTty}`);
  const quiet = ['--set', 'evaluation.everySteps=null', '--set', 'checkpoint.everySteps=null'];
  const short = ['--set', 'evaluation.finalTokens=512', '--no-sample', '--steps', String(steps)];
  runCommand(['train', '--recipe', recipe, ...quiet, ...short, '--out', out, ...flags], isTty);
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
    .filter((line): line is StepLine => 'train/step_ms' in line);
  if (lines.length !== steps)
    throw new Error(`trainer-overhead: must see ${steps} steps, got ${lines.length}`);
  rmSync(out, { recursive: true });
  return lines.slice(warmUp).map((line, at) => {
    const stepMs = line['train/step_ms'];
    const before = lines[warmUp + at - 1]?.['train/elapsed_ms'] ?? 0;
    return { stepMs, outsideMs: line['train/elapsed_ms'] - before - stepMs };
  });
}

/** Runs the command to its end; what it printed. */
function runCommand(parameters: readonly string[], isTty: boolean): string {
  const words = [process.execPath, cli, ...parameters];
  const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const [file = '', ...rest] = isTty ? ['script', '-qec', quoted, '/dev/null'] : words;
  const env = { ...process.env, CI: '', NO_COLOR: '', TERM: 'xterm-256color' };
  const { status, stdout, stderr } = spawnSync(file, rest, { encoding: 'utf8', env, maxBuffer: 2 ** 28 });
  if (status !== 0)
    throw new Error(`trainer-overhead: moebius ${parameters.join(' ')} ended with ${status}: ${stderr}`);
  return stdout;
}

/** Milliseconds to make the rows of one step. */
async function timeSampler({ data, tokenizer, batch, seed }: TrainConfig): Promise<number> {
  const { training } = await prepareDataset({ ...data, tokenizer, cacheFolder: defaultCacheFolder() });
  const sampler = createBatchSampler(training, { length: batch.length, seed });
  const rows = batch.sequences * batch.accumulation;
  const times = Array.from({ length: smoke ? 8 : 400 }, (_, step) => {
    const began = performance.now();
    sampler.rows(step * rows, rows);
    return performance.now() - began;
  });
  return spreadOf(times).median;
}

interface Around {
  readonly samplerMs: number;
  readonly config: TrainConfig;
  readonly versions: Readonly<Record<string, string>>;
}

function report(samples: Record<string, Sample[]>, { samplerMs, config, versions }: Around): void {
  const data = Object.entries(samples).map(([mode, all]) => {
    const step = spreadOf(all.map(({ stepMs }) => stepMs));
    const outside = spreadOf(all.map(({ outsideMs }) => outsideMs));
    const worst = Math.max(...all.map(({ outsideMs }) => outsideMs));
    const share = (outside.median + samplerMs) / (step.median + outside.median);
    return { mode, steps: all.length, stepMs: step, outsideMs: outside, worstMs: worst, samplerMs, share };
  });
  const table = markdownTable(
    ['mode', 'step, ms', 'outside the step, ms (worst)', 'rows of a step, ms', "the trainer's share"],
    data.map(({ mode, stepMs, outsideMs, worstMs, share }) => [
      mode,
      stepMs.median.toFixed(0),
      `${outsideMs.median.toFixed(2)} (${worstMs.toFixed(2)})`,
      samplerMs.toFixed(3),
      `${(100 * share).toFixed(2)} %`,
    ]),
  );
  console.log(table);
  if (smoke) return;
  const { sequences, length } = config.batch;
  const body = [
    table,
    '',
    `Medians over the steps of ${data[0]?.steps ?? 0} steps a mode (${recipe}, ${sequences}×${length} tokens), runs of ${steps} steps in turns, the first ${warmUp} of each left out. ` +
      'Outside the step: the record of metrics and its line in the file, the callbacks, what the command shows, and the turn of the event loop. ' +
      "What the model's own JavaScript takes inside a step (plans, calls of operators) is the model's and is in the profile.",
  ].join('\n');
  const claim = 'data, metrics, events and progress take at most 2 % of a training step';
  console.log(`written: ${writeResult({ topic: 'trainer-overhead', claim, versions, body, data })}`);
}
