/** @file The command line as it is met: help, mistakes, sizes, tokenizers. No training. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius, parseEvents } from './built-cli.ts';
import type { Outcome } from './built-cli.ts';

let folder = '';
beforeAll(() => {
  buildCli();
  folder = makeProject();
}, 300_000);

function run(...parameters: string[]): Outcome {
  return moebius(parameters, { cwd: folder });
}

describe('help', () => {
  const commands = [
    'train',
    'eval',
    'generate',
    'inspect',
    'trace',
    'plot',
    'upcycle',
    'experts',
    'tokenizer',
    'doctor',
    'bench',
  ];
  it.each(commands)('of %s has examples', (name) => {
    const { status, out } = run(name, '--help');
    expect(status).toBe(0);
    expect(out).toContain('Examples:');
    expect(out).toContain(`$ moebius ${name}`);
    expect(out).toContain('--json');
  });
  it('of the program lists the commands and every exit status', () => {
    const { status, out } = run('--help');
    expect(status).toBe(0);
    for (const name of commands) {
      expect(out).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
    expect(out).toMatch(/^ {2}130 /m);
  });
  it('is what a command without anything gives, as a mistake', () => {
    const { status, error } = run();
    expect(status).toBe(2);
    expect(error).toContain('Usage: moebius');
  });
  it('has the version of the package', () => {
    const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(run('--version')).toEqual({ status: 0, out: `${manifest.version}\n`, error: '' });
  });
});

describe('a mistake', () => {
  it.each([
    [['trian'], 'Did you mean train?'],
    [['train', '--step', '3'], 'Did you mean --steps?'],
    [['train', '--recipe', 'smok'], 'did you mean "smoke"'],
    [['train', '--steps', '0'], 'whole number of at least 1'],
    [['train', '--lr', 'high'], 'number above 0'],
    [['train', '--engine', 'gpu'], 'auto, native, wasm, cpu'],
    [['train', '--steps', '3', '--minutes', '1'], 'cannot be used with'],
    [['train', '--set', 'model.num_expert=4'], 'did you mean model.num_experts?'],
    [['train', '--set', 'steps'], 'must be path=value'],
    [['train', '--recipe', 'demo', '--config', 'run.json'], 'cannot be used with'],
    [['train', '--resume', 'x', '--steps', '3'], 'got --steps beside it'],
    [['generate', 'x', '--min-p', '2'], 'number from 0 to 1'],
    [['generate', 'x', '--repetition-penalty', '0'], 'number above 0'],
    [['generate', 'x', '--presence-penalty', 'much'], 'Must be a number'],
    [['tokenizer', 'encode', 'x'], 'io'],
  ])('in %j is named with its remedy', (parameters, remedy) => {
    const { status, out, error } = run(...parameters, '--json');
    expect([2, 3]).toContain(status);
    expect(`${error}${out}`).toContain(remedy);
    expect(error).not.toContain('    at ');
  });
  it('in several places at once is reported as a whole, before anything starts', () => {
    const { status, error } = run(
      'train',
      '--set',
      'model.num_experts=2',
      '--set',
      'model.num_experts_per_tok=4',
      '--set',
      'optimizer.beta1=2',
    );
    expect(status).toBe(2);
    expect(error).toContain('num_experts_per_tok');
    expect(error).toContain('optimizer.beta1');
    expect(error).not.toContain('engine ');
  });
  it.each([
    [['train', '--config', 'absent.json'], 'absent.json'],
    [['train', '--config', 'run.json', '--data', 'text'], 'did you mean'],
    [['generate', 'nothing'], 'config.json'],
    [['eval', 'texts'], 'a folder without one'],
    [['inspect', 'nothing'], 'nothing'],
    [['train', '--resume', 'texts'], 'run.json'],
  ])('in a path (%j) ends with status 3', (parameters, text) => {
    const { status, error } = run(...parameters);
    expect(status).toBe(3);
    expect(error).toContain(text);
  });
  it('in a file says that it is not JSON', () => {
    writeFileSync(join(folder, 'broken.json'), '{ "name": ');
    const { status, error } = run('train', '--config', 'broken.json');
    expect(status).toBe(3);
    expect(error).toMatch(/^error: broken\.json: must be JSON, got /m);
  });
  it('is also an object with --json', () => {
    const { out } = run('train', '--set', 'model.num_expert=4', '--json');
    expect(parseEvents(out)).toEqual([
      expect.objectContaining({
        event: 'error',
        code: 'configuration',
        message: expect.stringContaining('--set'),
      }),
    ]);
  });
});

describe('inspect', () => {
  it.each(['smoke', 'demo', 'reference', 'study'])(
    'knows what %s costs: the parts are the whole',
    (recipe) => {
      const [card] = parseEvents(run('inspect', '--recipe', recipe, '--json').out);
      const parts = Object.values(card?.['parts'] as Record<string, number>);
      expect(parts.reduce((sum, part) => sum + part, 0)).toBe(card?.['parameters']);
      expect(card?.['activeParameters']).toBeLessThan(card?.['parameters'] as number);
    },
  );
  it('follows --set', () => {
    const parameters = (...more: string[]) =>
      parseEvents(run('inspect', '--recipe', 'demo', '--json', ...more).out)[0]?.['parameters'] as number;
    expect(parameters('--set', 'model.num_experts=64')).toBeGreaterThan(2 * parameters());
  });
  it('prints a table without escape codes when nobody watches', () => {
    const { out } = run('inspect', '--recipe', 'demo');
    expect(out).toContain('active per token');
    expect(out).toContain('operations per step');
    expect(out).not.toContain('\u001b');
  });
});

describe('tokenizer', () => {
  it('is trained, encodes and decodes', () => {
    mkdirSync(join(folder, 'out'), { recursive: true });
    const trained = run(
      'tokenizer',
      'train',
      '--data',
      'texts',
      '--vocab-size',
      '400',
      '--out',
      'out/t',
      '--json',
    );
    expect(parseEvents(trained.out).at(-1)).toMatchObject({
      event: 'tokenizer',
      vocabularySize: 400,
      documents: 8,
    });
    const text = 'the copyright owner, naïve 🙂';
    const [encoded] = parseEvents(run('tokenizer', 'encode', 'out/t', text, '--json').out);
    const ids = encoded?.['ids'] as number[];
    expect(ids.length).toBeLessThan(Buffer.byteLength(text));
    expect(run('tokenizer', 'decode', 'out/t', ids.join(',')).out).toBe(`${text}\n`);
  });
  it('refuses ids it does not have', () => {
    const { status, error } = run('tokenizer', 'decode', 'out/t', '1', '4000');
    expect(status).toBe(2);
    expect(error).toContain('must be whole numbers below 400, got "4000"');
  });
});

describe('plot', () => {
  const line = (step: number): string => `${JSON.stringify({ step, 'train/loss': 8 - step })}\n`;
  it('draws runs into one file, a half-written last line left out', () => {
    mkdirSync(join(folder, 'runs/one'), { recursive: true });
    writeFileSync(join(folder, 'runs/one/metrics.jsonl'), `${line(1)}${line(2)}{"step":3,"tr`);
    const { status, out } = run('plot', 'runs/one', '--json');
    expect(status).toBe(0);
    expect(parseEvents(out)[0]).toMatchObject({ runs: [{ name: 'one', steps: 2, skippedLines: 1 }] });
    expect(readFileSync(join(folder, 'runs/one/curves.svg'), 'utf8')).toMatch(/^<svg [^]*<\/svg>\n$/);
    expect(run('plot', 'runs/one', 'runs/one', '--out', 'both.html').status).toBe(0);
    expect(readFileSync(join(folder, 'both.html'), 'utf8')).toMatch(/^<!doctype html>/);
  });
  it.each([
    [['plot', 'runs/absent'], 3, '(runs are in: runs/'],
    [['plot', 'runs/empty'], 3, 'must have a step or an evaluation in its metrics, got none'],
    [['plot', 'runs/one', '--out', 'x.png'], 2, 'must end with .svg or .html, got "x.png"'],
    [['plot', 'runs/one', '--ou', 'x.svg'], 2, 'Did you mean --out?'],
    [['plot'], 2, 'missing required argument'],
  ])('names the mistake in %j', (parameters, expected, text) => {
    mkdirSync(join(folder, 'runs/empty'), { recursive: true });
    writeFileSync(join(folder, 'runs/empty/metrics.jsonl'), '');
    const { status, error } = run(...parameters);
    expect(error).toContain(text);
    expect(status).toBe(expected);
  });
});

describe('doctor', () => {
  it('names the engine, as an object too', () => {
    const { status, out } = run('doctor', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ matmul: { correct: true } });
  });
});
