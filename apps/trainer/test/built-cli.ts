/** @file Runs the built `moebius` as people do: a child process, its output, its status. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
/** The built command. */
export const cli: string = join(root, 'apps/trainer/dist/cli.js');

/** What a command did. */
export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly error: string;
}

/** Builds the command and all it needs; from turbo's cache when nothing changed. One test file at a time. */
export function buildCli(): void {
  const turn = takeTurn();
  try {
    const { status, stdout, stderr } = spawnSync(
      join(root, 'node_modules/.bin/turbo'),
      ['run', 'build', '--filter=@moebius/trainer...', '--output-logs=errors-only'],
      { cwd: root, encoding: 'utf8', env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1' } },
    );
    if (status !== 0) throw new Error(`the build failed:\n${stdout}\n${stderr}`);
  } finally {
    rmSync(turn, { recursive: true, force: true });
  }
}

/** Waits until no other test file builds: two builds at once remove each other's files. */
function takeTurn(): string {
  const turn = join(root, 'apps/trainer/node_modules/.moebius-build');
  const pause = new Int32Array(new SharedArrayBuffer(4));
  mkdirSync(join(turn, '..'), { recursive: true });
  for (;;) {
    try {
      mkdirSync(turn);
      return turn;
    } catch {
      const begun = statSync(turn, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      // Left by a test run that was killed.
      if (Date.now() - begun > 300_000) rmSync(turn, { recursive: true, force: true });
      Atomics.wait(pause, 0, 0, 100);
    }
  }
}

/** Runs a command to its end. */
export function moebius(
  parameters: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...parameters], {
    cwd: options.cwd,
    encoding: 'utf8',
    timeout: 110_000,
    // vitest asks for colours; people who pipe do not.
    env: { ...process.env, FORCE_COLOR: '', ...options.env },
  });
  return { status, out: stdout, error: stderr };
}

/** Starts a command. */
export function startMoebius(
  parameters: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): ChildProcess {
  return spawn(process.execPath, [cli, ...parameters], {
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FORCE_COLOR: '', ...options.env },
  });
}

/** Every line of `--json` output. */
export function parseEvents(out: string): { readonly event: string; readonly [key: string]: unknown }[] {
  return out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string });
}

/** A folder with real text in several documents, and the configuration of a very small run on it. */
export function makeProject(): string {
  const folder = mkdtempSync(join(tmpdir(), 'moebius-cli-'));
  mkdirSync(join(folder, 'texts'));
  const paragraphs = readFileSync(join(root, 'LICENSE'), 'utf8').split('\n\n');
  for (let part = 0; part < 8; part += 1) {
    const text = paragraphs.filter((_, index) => index % 8 === part).join('\n\n');
    writeFileSync(join(folder, 'texts', `part-${part}.txt`), text);
  }
  writeFileSync(join(folder, 'run.json'), JSON.stringify(tinyRun(join(folder, 'texts')), null, 2));
  return folder;
}

function tinyRun(path: string): object {
  return {
    name: 'tiny',
    model: {
      model_type: 'qwen3_moe',
      hidden_size: 32,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 16,
      num_experts: 4,
      num_experts_per_tok: 2,
      moe_intermediate_size: 32,
      norm_topk_prob: true,
      tie_word_embeddings: true,
      max_position_embeddings: 128,
    },
    data: { training: { path }, heldOutFraction: 0.2 },
    tokenizer: { vocabularySize: 300 },
    batch: { sequences: 4, length: 32 },
    duration: { steps: 30 },
    optimizer: { learningRate: 0.005 },
    evaluation: { everySteps: 15, tokens: 500 },
  };
}
