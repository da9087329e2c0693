/** @file `moebius config`: what it prints, checks and describes; in this process. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { trainConfigDefinition } from '@moebius/train';
import { describe, expect, it } from 'vitest';

import { parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown, Surroundings } from './in-process.ts';

const cwd = mkdtempSync(join(tmpdir(), 'moebius-config-'));
const model = {
  model_type: 'qwen3_moe',
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  num_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 32,
};
mkdirSync(join(cwd, 'texts'));
writeFileSync(join(cwd, 'texts', 'a.txt'), 'some text\nand more\n');
const good = {
  $schema: './run.schema.json',
  model,
  duration: { steps: 3 },
  data: { training: { path: join(cwd, 'texts') } },
};
write('good.json', good);

function write(name: string, value: unknown): void {
  writeFileSync(join(cwd, name), typeof value === 'string' ? value : JSON.stringify(value));
}

function config(parameters: readonly string[], options: Omit<Surroundings, 'cwd'> = {}): Promise<Shown> {
  return runHere(['config', ...parameters], { cwd, ...options });
}

describe('config print', () => {
  it('is a table of every value with its meaning', async () => {
    const { status, out } = await config(['print', '--config', 'good.json', '--lr', '0.004']);
    expect(status).toBe(0);
    expect(out).toMatch(/^optimizer\.learningRate +0\.004 +# Peak learning rate/m);
    expect(out).toMatch(/^model\.num_experts +4 +# E: experts/m);
    write('plugins.json', { ...good, plugins: ['./p.mjs'] });
    const withList = await config(['print', '--config', 'plugins.json']);
    expect(withList.out).toMatch(/^plugins\.0 +"\.\/p\.mjs" +# Modules to load/m);
    expect(out).not.toContain('\u001b');
  });
  it('leaves meanings out where a terminal has no room, and never writes past its edge for them', async () => {
    const narrow = await config(['print', '--config', 'good.json'], {
      isTty: true,
      columns: 50,
      env: { NO_COLOR: '1' },
    });
    expect(narrow.out).not.toContain('#');
    const wide = await config(['print', '--config', 'good.json'], {
      isTty: true,
      columns: 110,
      env: { NO_COLOR: '1' },
    });
    const described = wide.out.split('\n').filter((line) => line.includes('  # '));
    expect(described.length).toBeGreaterThan(20);
    for (const line of described) expect(line.length).toBeLessThanOrEqual(110);
  });
  it('with --json is the configuration itself, and --out-file a file with the same', async () => {
    const printed = await config(['print', '--config', 'good.json', '--json']);
    const whole = JSON.parse(printed.out) as { batch: unknown; $schema: string };
    expect(whole.batch).toEqual({ sequences: 8, length: 256, accumulation: 1 });
    expect(whole.$schema).toBe('./run.schema.json');
    const { status, out } = await config(['print', '--config', 'good.json', '--out-file', 'made.json']);
    expect([status, out]).toEqual([0, expect.stringContaining('moebius train --config made.json')]);
    expect(JSON.parse(readFileSync(join(cwd, 'made.json'), 'utf8'))).toEqual(whole);
  });
  it('says which flag when a file cannot be written', async () => {
    const { status, error } = await config(['print', '--config', 'good.json', '--out-file', 'no/such/file']);
    expect(status).toBe(3);
    expect(error).toContain('error: --out-file: must be a file that can be written, got ENOENT for ');
  });
});

describe('config validate', () => {
  it('says valid, with status 0', async () => {
    expect(await config(['validate', 'good.json'])).toEqual({
      status: 0,
      out: 'good.json: valid\n',
      error: '',
    });
    expect((await config(['validate', '--recipe', 'smoke'])).out).toBe('recipe smoke: valid\n');
  });
  it('names every fault of every file at once, with status 2', async () => {
    write('bad.json', {
      ...good,
      model: { ...model, num_experts_per_tok: 9 },
      duration: { steps: 0 },
      bach: {},
    });
    write('gone.json', {
      ...good,
      data: { training: { path: join(cwd, 'textz') } },
      tokenizer: { path: 'none' },
      model: 'absent',
    });
    const { status, out, error } = await config(['validate', 'good.json', 'bad.json', 'gone.json']);
    expect(status).toBe(2);
    expect(out).toBe('good.json: valid\n');
    expect(error).toBe(`bad.json: 3 faults
  duration.steps: must be at least 1, got 0
  bach: must be a known key, got "bach" (did you mean "batch"?)
  model.num_experts_per_tok: must be at most num_experts 4, got 9 (raise num_experts or lower num_experts_per_tok)
gone.json: 3 faults
  data.training.path: must lead to text files, got "${join(cwd, 'textz')}" (did you mean "${join(cwd, 'texts')}"?)
  tokenizer.path: must be a tokenizer.json, or a folder with one, got "none"
  model: must be a config.json, or a folder with one, got "absent"
`);
  });
  it('gives the faults as data with --json', async () => {
    const events = parseEvents((await config(['validate', 'good.json', 'bad.json', '--json'])).out);
    expect(events.map(({ subject, valid }) => [subject, valid])).toEqual([
      ['good.json', true],
      ['bad.json', false],
    ]);
    expect(events[1]?.['faults']).toContainEqual({
      path: 'duration.steps',
      expectation: 'must be at least 1',
      got: '0',
    });
  });
  it('ends with status 3 for a file that is not there or not JSON', async () => {
    write('broken.json', '{ "name": ');
    const absent = await config(['validate', 'absent.json']);
    expect([absent.status, absent.error]).toEqual([
      3,
      expect.stringContaining('got ENOENT for "absent.json"'),
    ]);
    const broken = await config(['validate', 'broken.json']);
    expect([broken.status, broken.error]).toEqual([
      3,
      expect.stringContaining('broken.json: must be JSON, got '),
    ]);
  });
});

describe('config schema', () => {
  it('is the JSON Schema of the library, printed or written', async () => {
    const document = trainConfigDefinition.toJsonSchema();
    expect(JSON.parse((await config(['schema'])).out)).toEqual(document);
    expect(JSON.parse((await config(['schema', '--json'])).out)).toEqual(document);
    expect((await config(['schema', '--out-file', 'run.schema.json'])).status).toBe(0);
    expect(JSON.parse(readFileSync(join(cwd, 'run.schema.json'), 'utf8'))).toEqual(document);
  });
});
