/** Signals, and output that nobody reads: what a person, a shell or a machine that shuts down does to a run. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius, startMoebius } from './built-cli.ts';

let folder = '';
beforeAll(() => {
  buildCli();
  folder = makeProject();
  const tiny = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as object;
  const long = { ...tiny, duration: { steps: 100_000 }, evaluation: { everySteps: null } };
  writeFileSync(join(folder, 'long.json'), JSON.stringify(long));
  const evaluating = { everySteps: 2, tokens: 1_000_000 };
  writeFileSync(join(folder, 'evaluating.json'), JSON.stringify({ ...long, evaluation: evaluating }));
}, 400_000);

interface Ending {
  readonly status: number | null;
  readonly signal: string | null;
  readonly error: string;
  readonly steps: number;
}

type Act = (child: ReturnType<typeof startMoebius>) => void;

/** Trains, and does something to the process at each event. */
function train(config: string, out: string, at: { readonly [event: string]: Act }): Promise<Ending> {
  const parameters = ['train', '--config', config, '--out', out, '--json', '--no-sample'];
  return new Promise((resolve, reject) => {
    const child = startMoebius(parameters, { cwd: folder });
    let [error, steps] = ['', 0];
    const done = new Set<string>();
    child.stderr?.on('data', (chunk: Buffer) => {
      error += chunk.toString();
      for (const [text, act] of Object.entries(at)) if (error.includes(text) && !done.has(text)) act(child);
    });
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; step?: number };
      if (event.event === 'step') steps += 1;
      const name = event.event === 'step' ? `step ${event.step}` : event.event;
      if (!done.has(name)) at[name]?.(child);
      done.add(name);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, error, steps }));
  });
}

const state = (out: string): string => join(folder, out, 'checkpoint', 'state.safetensors');

describe('the packages', () => {
  it('put no handlers on signals: the system ends a blocked process, and full disks are errors', () => {
    const script = `import { createEngine } from '@moebius/tensor';
      import '@moebius/train';
      await createEngine();
      console.log(JSON.stringify(process.eventNames().filter((name) => String(name).startsWith('SIG'))));`;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
    });
    expect(stdout.trim()).toBe('[]');
  });
});

describe('the first signal', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s saves the run, says how to go on and exits with %i', async (name, expected) => {
    const out = `runs/${name}`;
    const { status, error } = await train('long.json', out, { 'step 3': (child) => child.kill(name) });
    expect([status, error]).toEqual([
      expected,
      expect.stringContaining(`to go on: moebius train --resume ${out}`),
    ]);
    expect(existsSync(state(out))).toBe(true);
    expect(existsSync(join(folder, out, 'lock'))).toBe(false);
  });

  it('ends an evaluation that is going on', async () => {
    const { status, steps } = await train('evaluating.json', 'runs/evaluating', {
      'step 2': (child) => child.kill('SIGTERM'),
    });
    expect([status, steps]).toEqual([143, 2]);
    expect(existsSync(state('runs/evaluating'))).toBe(true);
  });

  it('before training ends the process at once: nothing is lost, and the next run has no trouble', async () => {
    const early = await train('run.json', 'runs/early', { prepare: (child) => child.kill('SIGINT') });
    expect(early).toMatchObject({ status: null, signal: 'SIGINT', steps: 0 });
    const next = moebius(['train', '--config', 'run.json', '--out', 'runs/early', '--steps', '2', '--json'], {
      cwd: folder,
    });
    expect(next.status).toBe(0);
    expect(readdirSync(join(folder, 'runs/early')).toSorted()).toEqual([
      'metrics.jsonl',
      'model',
      'run.json',
    ]);
  });
});

describe('a second signal', () => {
  it('stops at once, without saving, and the last checkpoint stands', async () => {
    const long = JSON.parse(readFileSync(join(folder, 'long.json'), 'utf8')) as { model: object };
    // A step takes long enough for two signals.
    const wide = { hidden_size: 256, head_dim: 128, moe_intermediate_size: 512, num_experts: 8 };
    const slow = {
      ...long,
      model: { ...long.model, ...wide },
      checkpoint: { everySteps: 2 },
      batch: { sequences: 8, length: 128, accumulation: 5 },
    };
    writeFileSync(join(folder, 'slow.json'), JSON.stringify(slow));
    let before = Buffer.alloc(0);
    const { status, error, steps } = await train('slow.json', 'runs/twice', {
      save: (child) => {
        before = readFileSync(state('runs/twice'));
        child.kill('SIGINT');
        setTimeout(() => child.kill('SIGINT'), 50);
      },
    });
    expect(status).toBe(130);
    expect(error).not.toContain('to go on');
    expect(steps).toBeLessThan(4);
    expect(before.length).toBeGreaterThan(1000);
    expect(readFileSync(state('runs/twice')).equals(before)).toBe(true);
  });
});

describe('output that nobody reads', () => {
  it('stops the run after its step, saved and resumable', async () => {
    const out = 'runs/closed';
    const { status, error } = await train('long.json', out, { 'step 3': (child) => child.stdout?.destroy() });
    expect([status, error]).toEqual([
      141,
      expect.stringContaining(`to go on: moebius train --resume ${out}`),
    ]);
    expect(existsSync(state(out))).toBe(true);
  });

  it('and errors that nobody reads lose nothing either', async () => {
    const out = 'runs/deaf';
    const { status } = await train('long.json', out, {
      'step 3': (child) => {
        child.stderr?.destroy();
        child.stdout?.destroy();
      },
    });
    expect(status).toBe(141);
    expect(existsSync(state(out))).toBe(true);
  });
});
