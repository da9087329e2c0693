/** @file What the command tells about a trained model: measured by document, its routers on a text, texts in batches. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { traceFromLines } from '@moebius/routing/metrics';
import { beforeAll, describe, expect, it } from 'vitest';

import { makeProject, parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown } from './in-process.ts';

let cwd = '';
beforeAll(async () => {
  cwd = makeProject();
  for (const seed of ['0', '1']) {
    const length = ['--steps', '12', '--seed', seed];
    const place = ['--out', `runs/seed-${seed}`, '--no-sample', '--json'];
    const { status, error } = await run('train', '--config', 'run.json', ...length, ...place);
    expect([status, error]).toEqual([0, '']);
  }
}, 300_000);

function run(...parameters: string[]): Promise<Shown> {
  return runHere(parameters, { cwd });
}

function runWith(stdin: string, ...parameters: string[]): Promise<Shown> {
  return runHere(parameters, { cwd, stdin });
}

type Events = ReturnType<typeof parseEvents>;

function named({ out }: Shown, name: string): Events {
  return parseEvents(out).filter(({ event }) => event === name);
}

describe('a file that config print made', () => {
  it('trains what the flags would have trained, number for number', async () => {
    const flags = ['--config', 'run.json', '--steps', '4', '--lr', '0.003', '--set', 'batch.accumulation=2'];
    expect((await run('config', 'print', ...flags, '--out-file', 'printed.json')).status).toBe(0);
    const losses = async (...given: string[]) =>
      named(await run('train', ...given, '--no-sample', '--json'), 'step').map(({ loss }) => loss);
    const flagged = await losses(...flags);
    expect(flagged).toHaveLength(4);
    expect(await losses('--config', 'printed.json')).toEqual(flagged);
  });
});

describe('eval', () => {
  it('tells every document, and the whole with its error', async () => {
    const shown = await run('eval', 'runs/seed-0', '--data', 'texts', '--by-document', '--json');
    const [whole] = named(shown, 'evaluate');
    const documents = named(shown, 'document');
    expect(documents.map(({ name }) => name)).toEqual(
      Array.from({ length: 8 }, (_, index) => `part-${index}.txt`),
    );
    expect(whole).toMatchObject({ model: 'runs/seed-0', documents: 8, length: 32, stride: 32 });
    const sum = (key: string) => documents.reduce((total, document) => total + (document[key] as number), 0);
    expect(sum('bits') / sum('bytes')).toBeCloseTo(whole?.['bitsPerByte'] as number, 9);
    expect(whole?.['bitsPerByteError']).toBeGreaterThan(0);
  });
  it('shows people the worst document first', async () => {
    const { out } = await run('eval', 'runs/seed-0', '--data', 'texts', '--by-document');
    expect(out).toMatch(/^bits per byte +\d\.\d{4} ± \d\.\d{4}$/m);
    const figures = [...out.matchAll(/^part-\d\.txt +(\d\.\d{4})/gm)].map(([, bits]) => Number(bits));
    expect(figures).toHaveLength(8);
    expect(figures).toEqual(figures.toSorted((left, right) => right - left));
  });
  it('tells what a capacity costs: every method, key and factor beside the model as it is', async () => {
    const grid = ['--capacity', '2,0.5', '--drop', 'score,order', '--method', 'token,device,expert-drop'];
    const shown = await run('eval', 'runs/seed-0', '--data', 'texts', ...grid, '--devices', '2', '--json');
    expect(shown.status).toBe(0);
    const rows = named(shown, 'capacity');
    expect(rows.map(({ name }) => name)).toEqual([
      'dropless',
      ...['token', 'device'].flatMap((method) =>
        ['score', 'order'].flatMap((key) => [`${method} ${key} 2`, `${method} ${key} 0.5`]),
      ),
      'expert-drop',
    ]);
    const [dropless, ...capped] = rows;
    const [plain] = named(await run('eval', 'runs/seed-0', '--data', 'texts', '--json'), 'evaluate');
    expect(dropless?.['loss']).toBeCloseTo(plain?.['loss'] as number, 5);
    for (const row of capped) {
      const { difference, interval } = row['difference'] as { difference: number; interval: number[] };
      expect(difference).toBeCloseTo((row['loss'] as number) - (dropless?.['loss'] as number), 9);
      expect(interval).toHaveLength(2);
      expect(row).toMatchObject({ model: 'runs/seed-0', devices: 2 });
      expect(row['layerSeconds']).toBeGreaterThan(0);
    }
    expect(capped[1]?.['dropRatio']).toBeGreaterThan(0.4);
    const { out } = await run('eval', 'runs/seed-0', '--data', 'texts', '--capacity', '1');
    expect(out).toMatch(/^capacity +loss +difference +95 % interval +dropped +added +orphans +peak\/mean/m);
    expect(out).toMatch(
      /^token score 1 +\d\.\d{4} +[+−]\d\.\d{4} +[+−]\d\.\d{4} … [+−]\d\.\d{4} +\d+\.\d %/m,
    );
  });
  it('refuses capacities that cannot be', async () => {
    const errorOf = async (...flags: string[]): Promise<string> =>
      (await run('eval', 'runs/seed-0', '--data', 'texts', ...flags)).error.replace(/^engine.*\n/m, '');
    const factors =
      "error: option '--capacity <factors>' argument '1,VALUE' is invalid. Must be capacity factors of at least 0 with commas between, as in 2,1.5,1 (inf drops nothing), got \"VALUE\".";
    for (const value of ['-1', 'NaN', 'much']) {
      expect(await errorOf('--capacity', `1,${value}`)).toContain(factors.replaceAll('VALUE', value));
    }
    expect(await errorOf('--capacity', '1', '--drop', 'skore')).toContain(
      'Must be of score, order, reverse, random, got "skore".',
    );
    expect(await errorOf('--capacity', '1', '--method', 'tokens')).toContain(
      'Must be of token, expanded, top-m, device, reroute, expert-drop, got "tokens".',
    );
    expect(await errorOf('--drop', 'order')).toBe(
      'error: capacity: must be a valid configuration, got 1 fault:\n  gammas: must name a capacity factor, got none (for example 2, 1.5, 1)\n',
    );
    expect(await errorOf('--capacity', '1', '--devices', '3')).toMatch(
      /^error: capacity: must be a valid configuration, got 1 fault:\n {2}devices: must divide experts \d, got 3 \(choose a divisor of \d\)\n$/,
    );
    expect(await errorOf('--capacity', '1', '--baselines')).toBe(
      'error: --capacity: must be alone with one model, got --baselines (measure them in a command of their own)\n',
    );
  });
  it('sets several models side by side, with the error of their difference', async () => {
    const shown = await run('eval', 'runs/seed-0', 'runs/seed-1', '--data', 'texts', '--json');
    const [first, second] = named(shown, 'evaluate');
    expect(first).not.toHaveProperty('difference');
    const difference = second?.['difference'] as { bitsPerByte: number; error: number };
    expect(difference.bitsPerByte).toBeCloseTo(
      (second?.['bitsPerByte'] as number) - (first?.['bitsPerByte'] as number),
      12,
    );
    expect(difference.error).toBeGreaterThan(0);
    expect(difference.error).toBeLessThan(second?.['bitsPerByteError'] as number);
    const { out } = await run('eval', 'runs/seed-0', 'runs/seed-1', '--data', 'texts');
    expect(out).toMatch(/^model +bits per byte +difference +loss/m);
    expect(out).toMatch(/^runs\/seed-1 +\d\.\d{4} ± \d\.\d{4} +-?\d\.\d{4} ± \d\.\d{4}/m);
  });
  it('slides its window with --stride: more context, the same tokens', async () => {
    const evaluated = async (...more: string[]) =>
      named(await run('eval', 'runs/seed-0', '--data', 'texts', '--json', ...more), 'evaluate')[0];
    const [plain, sliding] = [await evaluated(), await evaluated('--stride', '8')];
    expect(sliding).toMatchObject({ stride: 8, evaluatedTokens: plain?.['evaluatedTokens'] });
    expect(sliding?.['loss']).not.toBe(plain?.['loss']);
    expect(await evaluated('--stride', '8', '--batch', '3')).toMatchObject({ stride: 8 });
    const wide = await run('eval', 'runs/seed-0', '--data', 'texts', '--stride', '33');
    expect([wide.status, wide.error]).toEqual([
      2,
      expect.stringContaining("from 1 to the window's 32 tokens, got 33"),
    ]);
  });
  it('reads a file, a glob and standard input', async () => {
    const text = 'You may reproduce and distribute copies of the Work.\n';
    writeFileSync(join(cwd, 'letter.txt'), text);
    const figure = async (shown: Promise<Shown>) => named(await shown, 'evaluate')[0]?.['loss'];
    const file = await figure(run('eval', 'runs/seed-0', '--data', 'letter.txt', '--json'));
    expect(await figure(runWith(text, 'eval', 'runs/seed-0', '--data', '-', '--json'))).toBe(file);
    const glob = named(
      await run('eval', 'runs/seed-0', '--data', join(cwd, 'texts/part-[12].txt'), '--json'),
      'evaluate',
    );
    expect(glob[0]).toMatchObject({ documents: 2 });
    const single = named(await run('eval', 'runs/seed-0', '--data', 'letter.txt', '--json'), 'evaluate');
    expect(single[0]).toMatchObject({ documents: 1, bitsPerByteError: null });
  });
});

describe('inspect --text', () => {
  it('tells what the routers do, layer by layer', async () => {
    const shown = await run('inspect', 'runs/seed-0', '--text', 'texts', '--json');
    const [report] = named(shown, 'routing');
    const layers = report?.['layers'] as { layer: number; load: number[]; topWeight: number; idle: number }[];
    expect(layers.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const { load, topWeight } of layers) {
      expect(load.reduce((sum, count) => sum + count, 0)).toBe(2 * (report?.['tokens'] as number));
      expect(topWeight).toBeGreaterThanOrEqual(0.5);
    }
    const { out } = await run('inspect', 'runs/seed-0', '--text', 'texts', '--max-tokens', '64');
    expect(out).toMatch(/^routers, 64 tokens$/m);
    expect(out).toMatch(
      /^ {2}layer 1 +\d\.\d\d +[01]\.\d{3} +\d +[01]\.\d{3} +[01]\.\d{3} +[▁▂▃▄▅▆▇█·]{4}$/m,
    );
  });
  it('needs a trained model, and text that is there', async () => {
    const none = await run('inspect', '--recipe', 'smoke', '--text', 'texts');
    expect([none.status, none.error]).toEqual([
      2,
      expect.stringContaining('--text: must have a trained model'),
    ]);
    const gone = await run('inspect', 'runs/seed-0', '--text', 'textz');
    expect([gone.status, gone.error]).toEqual([3, expect.stringContaining('did you mean')]);
  });
  it('lists layers whose parameters are the whole, with those outside them', async () => {
    const [card = { event: 'none' }] = named(await run('inspect', 'runs/seed-0', '--json'), 'model');
    const layers = card['layers'] as {
      parameters: number;
      activeParameters: number;
      flopsPerToken: number;
    }[];
    const sum = (key: 'parameters' | 'activeParameters') =>
      layers.reduce((total, layer) => total + layer[key], 0);
    const { embedding = 0, 'output projection': head = 0 } = card['parts'] as { [part: string]: number };
    const width = (card['config'] as { hidden_size: number }).hidden_size;
    expect(sum('parameters') + embedding + head + width).toBe(card['parameters']);
    expect(sum('activeParameters') + embedding + head + width).toBe(card['activeParameters']);
    const { out } = await run('inspect', 'runs/seed-0');
    expect(out).toMatch(/^ {4}0 to 1, each +sparse/m);
  });
});

describe('generate --prompts', () => {
  const flags = ['--max-tokens', '10', '--temperature', '1', '--json'];
  const texts = (shown: Shown) =>
    named(shown, 'text').map(({ index, prompt, text }) => [index, prompt, text]);

  it('continues the lines of a file, the same however they are cut into batches', async () => {
    writeFileSync(join(cwd, 'prompts.txt'), 'the License\na\n\nYou may\na\n');
    const made = async (...more: string[]) =>
      texts(await run('generate', 'runs/seed-0', '--prompts', 'prompts.txt', ...flags, ...more));
    const whole = await made();
    expect(whole.map(([index, prompt]) => [index, prompt])).toEqual([
      [0, 'the License'],
      [1, 'a'],
      [2, 'You may'],
      [3, 'a'],
    ]);
    expect(whole[1]?.[2]).not.toBe(whole[3]?.[2]);
    expect(await made('--batch', '3')).toEqual(whole);
    expect(await made('--batch', '1')).toEqual(whole);
  });
  it('takes JSON lines, from a file or standard input', async () => {
    const lines = '{"prompt":"the\\nLicense","id":7}\n{"prompt":""}\n';
    writeFileSync(join(cwd, 'prompts.jsonl'), lines);
    const file = texts(await run('generate', 'runs/seed-0', '--prompts', 'prompts.jsonl', ...flags));
    expect(file.map(([, prompt]) => prompt)).toEqual(['the\nLicense', '']);
    expect(texts(await runWith(lines, 'generate', 'runs/seed-0', '--prompts', '-', ...flags))).toEqual(file);
    const plain = await runWith('We\nThey\n', 'generate', 'runs/seed-0', '--prompts', '-', ...flags);
    expect(texts(plain).map(([, prompt]) => prompt)).toEqual(['We', 'They']);
  });
  it('names what is wrong with them', async () => {
    writeFileSync(join(cwd, 'wrong.jsonl'), '{"prompt":"a"}\n{"text":"b"}\n');
    writeFileSync(join(cwd, 'empty.txt'), '\n \n');
    for (const [parameters, expected, message] of [
      [
        ['--prompts', 'wrong.jsonl'],
        3,
        'line 2: must be a JSON object with a string "prompt", got {"text":"b"}',
      ],
      [['--prompts', 'empty.txt'], 3, 'must hold at least one prompt, got none (write one a line)'],
      [['--prompts', 'absent.txt'], 3, 'got ENOENT for "absent.txt" (check the path)'],
      [['--prompts', 'empty.txt', '--prompt', 'a'], 2, 'cannot be used with'],
    ] as const) {
      const { status, error } = await run('generate', 'runs/seed-0', ...parameters);
      expect(error).toContain(message);
      expect(status).toBe(expected);
    }
  });
});

describe('trace', () => {
  it('writes what every router decided, and draws it before and after a capacity', async () => {
    const capped = ['--capacity', '0.5', '--out', 'trace.jsonl', '--svg', 'pictures'];
    const shown = await run(
      'trace',
      'runs/seed-0',
      'texts',
      ...capped,
      '--max-tokens',
      '64',
      '--sequence',
      '32',
      '--json',
    );
    expect(shown.status).toBe(0);
    const [told] = named(shown, 'trace');
    const layers = told?.['layers'] as { layer: number; load: number[]; before: number[]; dropped: number }[];
    expect(told).toMatchObject({ model: 'runs/seed-0', capacity: 'token score 0.5', tokens: 64 });
    const trace = traceFromLines(readFileSync(join(cwd, 'trace.jsonl'), 'utf8').split('\n'));
    expect(trace.about).toEqual({ model: 'runs/seed-0', text: 'texts', capacity: 'token score 0.5' });
    expect(trace.passes).toHaveLength(1);
    expect(trace.passes[0]?.ids).toHaveLength(64);
    for (const [at, { layer, plan }] of (trace.passes[0]?.layers ?? []).entries()) {
      expect(layers[at]).toMatchObject({ layer, load: [...plan.stats.load] });
      expect(Math.max(...plan.stats.load)).toBeLessThan(Math.max(...(layers[at]?.before ?? [])));
      const picture = readFileSync(join(cwd, 'pictures', `layer-${layer}.svg`), 'utf8');
      expect(picture).toMatch(/^<svg [^]*runs\/seed-0, layer \d/);
    }
    expect(layers.length).toBeGreaterThan(0);
  });
  it('without a capacity draws the loads as they are, and writes nothing', async () => {
    const { status, out } = await run('trace', 'runs/seed-0', 'texts', '--max-tokens', '20');
    expect(status).toBe(0);
    expect(out).toMatch(/^layer 0 {2}busiest expert \d\.\d\d x mean$/m);
    expect(out).toMatch(/^0 █* *\d+$/m);
  });
  it('says what it cannot do', async () => {
    const errorOf = async (...flags: string[]): Promise<string> =>
      (await run('trace', 'runs/seed-0', 'texts', ...flags)).error.replace(/^engine.*\n/m, '');
    expect(await errorOf('--out', 'trace.json')).toBe(
      'error: --out: must end with .jsonl, got "trace.json" (a trace is JSON Lines)\n',
    );
    expect(await errorOf('--drop', 'order')).toBe(
      'error: capacity: must be a valid configuration, got 1 fault:\n  gammas: must name a capacity factor, got none (for example 2, 1.5, 1)\n',
    );
    expect(await errorOf('--capacity', '2,1')).toContain('Must be one capacity factor.');
  });
});

describe('generate --capacity', () => {
  it('with no cap, or one that nothing exceeds, is the model as it is; with nothing left, another', async () => {
    const surenessOf = async (...flags: string[]): Promise<number> => {
      const fixed = ['--prompt', 'Fellow citizens of the Senate', '--temperature', '0', '--max-tokens', '3'];
      const shown = await run('generate', 'runs/seed-0', ...fixed, '--logprobs', ...flags, '--json');
      const tokens = named(shown, 'text')[0]?.['logprobs'] as { logprob: number }[];
      return tokens.reduce((sum, { logprob }) => sum + logprob, 0);
    };
    const plain = await surenessOf();
    expect(await surenessOf('--capacity', 'inf')).toBeCloseTo(plain, 4);
    expect(await surenessOf('--capacity', '100', '--capacity-for', 'both')).toBeCloseTo(plain, 4);
    // One token never exceeds a cap, which is at least one pair.
    expect(await surenessOf('--capacity', '0.25', '--capacity-for', 'decode')).toBeCloseTo(plain, 4);
    expect(Math.abs((await surenessOf('--capacity', '0', '--capacity-for', 'both')) - plain)).toBeGreaterThan(
      1e-3,
    );
    expect(Math.abs((await surenessOf('--capacity', '0.25')) - plain)).toBeGreaterThan(1e-3);
  });
  it('refuses a factor that is none', async () => {
    const { error } = await run('generate', 'runs/seed-0', '--prompt', 'We', '--capacity', '-1');
    expect(error).toContain(
      "option '--capacity <factor>' argument '-1' is invalid. Must be capacity factors of at least 0",
    );
  });
});
