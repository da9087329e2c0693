/** @file Training by the command: a whole run, its folder, its model in use, Ctrl-C and going on. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius, parseEvents, startMoebius } from './built-cli.ts';
import type { Outcome } from './built-cli.ts';

type Events = ReturnType<typeof parseEvents>;

let folder = '';
let whole: Events = [];
beforeAll(() => {
  buildCli();
  folder = makeProject();
  const { status, out, error } = run('train', '--config', 'run.json', '--out', 'runs/whole', '--json');
  expect(error).toBe('');
  expect(status).toBe(0);
  whole = parseEvents(out);
}, 400_000);

function run(...parameters: string[]): Outcome {
  return moebius(parameters, { cwd: folder });
}

function named(events: Events, name: string): Events {
  return events.filter(({ event }) => event === name);
}

describe('a run', () => {
  it('tells its events in order, and learns', () => {
    const kinds = whole.map(({ event }) => event).filter((event, index, all) => event !== all[index - 1]);
    expect(kinds).toEqual([
      'engine',
      'prepare',
      'start',
      'step',
      'evaluate',
      'step',
      'save',
      'evaluate',
      'end',
      'sample',
    ]);
    const losses = named(whole, 'step').map(({ loss }) => loss as number);
    expect(losses).toHaveLength(30);
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) - 0.5);
  });
  it('ends with baselines beside the model', () => {
    const [end] = named(whole, 'end');
    expect(Object.keys(end?.['baselines'] as object).toSorted()).toEqual([
      'byteBigram',
      'gzip',
      'tokenBigram',
      'tokenBigramSeen',
      'tokenUnigram',
    ]);
    expect(end?.['evaluation']).toMatchObject({ bitsPerByte: expect.any(Number), documents: 2 });
  });
  it('leaves metrics, configuration and a model folder', () => {
    const records = readFileSync(join(folder, 'runs/whole/metrics.jsonl'), 'utf8').trim().split('\n');
    expect(
      records.map((line) => JSON.parse(line) as object).filter((record) => 'train/loss' in record),
    ).toHaveLength(30);
    for (const file of ['run.json', 'model/config.json', 'model/tokenizer.json']) {
      expect(existsSync(join(folder, 'runs/whole', file)), file).toBe(true);
    }
  });
  it('is not written over by accident, and is when asked', () => {
    const again = run('train', '--config', 'run.json', '--out', 'runs/whole', '--steps', '1');
    expect(again.status).toBe(2);
    expect(again.error).toContain('must be a folder without a run');
    const before = run('train', '--config', 'run.json', '--out', 'runs/other', '--steps', '1', '--no-sample');
    const over = run(
      'train',
      '--config',
      'run.json',
      '--out',
      'runs/other',
      '--steps',
      '2',
      '--no-sample',
      '--overwrite',
    );
    expect([before.status, over.status]).toEqual([0, 0]);
  });
  it('shows people plain lines, a table, the experts and a text', () => {
    const { status, out } = run('train', '--config', 'run.json', '--steps', '8', '--seed', '1');
    expect(status).toBe(0);
    for (const text of [
      'tokenizer ',
      'parameters',
      'step 8/8  loss',
      'this model',
      'gzip -9',
      'layer  1',
      'A sample',
    ]) {
      expect(out).toContain(text);
    }
    expect(out).not.toContain('\u001b');
    expect(out).not.toContain('\r');
    expect(out.indexOf('step 8/8')).toBeLessThan(out.indexOf('step 8: held-out'));
  });
});

describe('the trained model', () => {
  it('is measured again with the result of the run', () => {
    const [end] = named(whole, 'end');
    const [result] = named(parseEvents(run('eval', 'runs/whole', '--json').out), 'evaluate');
    const inRun = end?.['evaluation'] as { bitsPerByte: number; evaluatedTokens: number };
    expect(result?.['evaluatedTokens']).toBe(inRun.evaluatedTokens);
    expect(result?.['bitsPerByte']).toBeCloseTo(inRun.bitsPerByte, 5);
  });
  it('continues a text, the same for one seed and another for another', () => {
    const text = (seed: string) =>
      run('generate', 'runs/whole', '--prompt', 'the License', '--max-tokens', '20', '--seed', seed).out;
    expect(text('3')).toBe(text('3'));
    expect(text('3')).not.toBe(text('4'));
    expect(text('3').startsWith('the License')).toBe(true);
  });
  it('continues several prompts together as it would alone, with log-probabilities', () => {
    const flags = ['--temperature', '0', '--max-tokens', '12', '--json', '--logprobs'];
    const made = (...prompts: string[]) =>
      named(
        parseEvents(
          run('generate', 'runs/whole', ...prompts.flatMap((text) => ['--prompt', text]), ...flags).out,
        ),
        'text',
      );
    const [first, second] = made('the License', 'a');
    const [alone] = made('a');
    expect([first?.['prompt'], second?.['prompt'], second?.['index']]).toEqual(['the License', 'a', 1]);
    expect(second?.['text']).toBe(alone?.['text']);
    const logprobs = second?.['logprobs'] as { token: number; logprob: number }[];
    expect(logprobs).toHaveLength(second?.['tokens'] as number);
    for (const { logprob } of logprobs) expect(logprob).toBeLessThanOrEqual(0);
  });
  it('prints nothing of a stop string', () => {
    const flags = ['--prompt', 'the License', '--temperature', '0', '--max-tokens', '20', '--json'];
    const whole = named(parseEvents(run('generate', 'runs/whole', ...flags).out), 'text')[0]?.['text'];
    const stop = String(whole).slice(4, 8);
    const [cut] = named(parseEvents(run('generate', 'runs/whole', ...flags, '--stop', stop).out), 'text');
    expect(cut?.['text']).toBe(String(whole).slice(0, String(whole).indexOf(stop)));
    expect(cut?.['finished']).toBe('stop');
  });
  it('follows the generation_config.json of its folder unless a flag says otherwise', () => {
    const file = join(folder, 'runs/whole/model/generation_config.json');
    const before = readFileSync(file, 'utf8');
    const text = (...flags: string[]) =>
      run('generate', 'runs/whole', '--prompt', 'the License', '--max-tokens', '20', ...flags).out;
    const greedy = text('--temperature', '0');
    const drawn = text();
    writeFileSync(file, JSON.stringify({ do_sample: false }));
    expect(text()).toBe(greedy);
    expect(text('--temperature', '0.8')).toBe(drawn);
    writeFileSync(file, JSON.stringify({ top_p: 7, min_p: -1 }));
    const broken = run('generate', 'runs/whole');
    expect(broken.status).toBe(2);
    expect(broken.error).toMatch(/top_p[^]*min_p/);
    writeFileSync(file, before);
  });
  it('has the size that inspect tells', () => {
    const [start] = named(whole, 'start');
    const [card] = parseEvents(run('inspect', 'runs/whole', '--json').out);
    expect(card?.['parameters']).toBe(start?.['parameters']);
    expect(card?.['activeParameters']).toBe(start?.['activeParameters']);
  });
});

describe('Ctrl-C', () => {
  it('saves, says how to go on, and going on ends where the whole run ended', async () => {
    const out = join(folder, 'runs/stopped');
    const { status, error } = await interruptAtStep(5, [
      'train',
      '--config',
      'run.json',
      '--out',
      out,
      '--json',
    ]);
    expect(status).toBe(130);
    expect(error).toContain('to go on: moebius train --resume runs/stopped');
    expect(existsSync(join(out, 'checkpoint/state.safetensors'))).toBe(true);

    const resumed = parseEvents(run('train', '--resume', 'runs/stopped', '--json').out);
    const from = named(resumed, 'start')[0]?.['step'] as number;
    expect(from).toBeGreaterThanOrEqual(5);
    expect(from).toBeLessThan(30);
    expect(named(resumed, 'step').map(({ loss }) => loss)).toEqual(
      named(whole, 'step')
        .slice(from)
        .map(({ loss }) => loss),
    );
    expect(named(resumed, 'end')[0]?.['evaluation']).toEqual(named(whole, 'end')[0]?.['evaluation']);
  });
  it('without an output folder says that nothing was saved', async () => {
    const { status, error } = await interruptAtStep(2, [
      'train',
      '--config',
      'run.json',
      '--steps',
      '100000',
      '--json',
    ]);
    expect(status).toBe(130);
    expect(error).toContain('nothing was saved');
    rmSync(join(folder, 'runs/stopped'), { recursive: true });
  });
});

describe('bench', () => {
  it('times steps and decoding, and leaves nothing behind', () => {
    const { status, out } = run(
      'bench',
      '--config',
      'run.json',
      '--repeat',
      '2',
      '--max-tokens',
      '8',
      '--json',
    );
    expect(status).toBe(0);
    const [result] = named(parseEvents(out), 'bench');
    for (const key of ['stepMs', 'tokensPerSecond', 'mfu', 'decodedPerSecond', 'residentBytes']) {
      expect(result?.[key], key).toBeGreaterThan(0);
    }
  });
});

/** Sends SIGINT when a step's event appears. */
function interruptAtStep(
  step: number,
  parameters: string[],
): Promise<{ status: number | null; error: string }> {
  return new Promise((resolve, reject) => {
    const child = startMoebius(parameters, { cwd: folder });
    const { stdout, stderr } = child;
    if (stdout === null || stderr === null) throw new Error('no output');
    let error = '';
    stderr.on('data', (chunk: Buffer) => (error += chunk.toString()));
    createInterface({ input: stdout }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; step?: number };
      if (event.event === 'step' && event.step === step) child.kill('SIGINT');
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, error }));
  });
}
