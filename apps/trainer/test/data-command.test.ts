/** @file `moebius data` and `moebius tokenizer`, in this process: no model, no engine. */
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown } from './in-process.ts';

const cwd = mkdtempSync(join(tmpdir(), 'moebius-data-'));
const cache = join(cwd, 'cache');
const sentence = (index: number): string =>
  `Document ${index} speaks of ships, of citizens and of ${index * 7} other things.\n`;

beforeAll(() => {
  mkdirSync(join(cwd, 'texts'));
  for (let index = 0; index < 12; index += 1) {
    writeFileSync(join(cwd, 'texts', `part-${index}.txt`), sentence(index).repeat(1 + index));
  }
  const rows = Array.from({ length: 9 }, (_, index) => JSON.stringify({ body: sentence(index) }));
  writeFileSync(join(cwd, 'rows.jsonl'), `${rows.join('\n')}\n`);
});

function run(parameters: readonly string[], stdin?: string | Buffer): Promise<Shown> {
  return runHere(parameters, {
    cwd,
    env: { MOEBIUS_CACHE: cache },
    ...(stdin === undefined ? {} : { stdin }),
  });
}

const small = ['--set', 'tokenizer.vocabularySize=300', '--set', 'data.heldOutFraction=0.25'];

describe('data prepare', () => {
  it('makes tokenizer and shards once, in stages, and finds them the second time', async () => {
    const { status, out, error } = await run(['data', 'prepare', 'texts', ...small, '--json']);
    expect([status, error]).toEqual([0, '']);
    const events = parseEvents(out);
    expect(events.map(({ event, stage }) => stage ?? event)).toEqual([
      'text',
      'tokenizer',
      'shards',
      'dataset',
    ]);
    expect(events.at(-1)).toMatchObject({ vocabularySize: 300, cacheFolder: cache });
    const made = () => readdirSync(cache, { recursive: true }).map(String).toSorted();
    const before = made();
    expect(before.filter((name) => name.endsWith('.safetensors'))).toHaveLength(2);
    const again = await run(['data', 'prepare', 'texts', ...small]);
    expect(again.out).toMatch(/^ready in .* tokens to train on, in /);
    expect(made()).toEqual(before);
  });
  it('prepares a glob and the field of .jsonl lines', async () => {
    const glob = await run(['data', 'prepare', join(cwd, 'texts/part-1*.txt'), ...small, '--json']);
    expect(parseEvents(glob.out)[0]?.['detail']).toMatch(/^2 documents|^[12] documents to train on/);
    const rows = await run(['data', 'prepare', 'rows.jsonl', '--field', 'body', ...small, '--json']);
    expect(parseEvents(rows.out)[0]?.['detail']).toMatch(
      /documents to train on \(\d+ characters\), \d+ held out/,
    );
    const wrong = await run(['data', 'prepare', 'rows.jsonl', ...small]);
    expect([wrong.status, wrong.error]).toEqual([3, expect.stringContaining('got only the fields body')]);
  });
});

describe('data info', () => {
  it('tells documents, tokens and the split, as a table and as an object', async () => {
    const { status, out, error } = await run(['data', 'info', 'texts', ...small]);
    expect(status).toBe(0);
    expect(error).not.toContain('warning');
    expect(out).toMatch(/^documents +\d+ +\d+$/m);
    expect(out).toMatch(/^bytes per token +\d\.\d\d +\d\.\d\d$/m);
    expect(out).toMatch(/^most frequent tokens \(\d+\.\d % of the text\):$/m);
    const [event] = parseEvents((await run(['data', 'info', 'texts', ...small, '--json'])).out).slice(-1);
    const { training, heldOut } = event as unknown as {
      [side: string]: { documents: number; bytes: number };
    };
    expect((training?.documents ?? 0) + (heldOut?.documents ?? 0)).toBe(12);
    expect(event).toMatchObject({ event: 'data', unusable: [], leaked: [], shared: [], faulty: [] });
  });
  it('warns of held-out text that is trained on, doubles, encodings and files it cannot use', async () => {
    mkdirSync(join(cwd, 'odd'));
    const whole = sentence(3).repeat(4);
    writeFileSync(join(cwd, 'odd/a.txt'), whole);
    writeFileSync(join(cwd, 'odd/b.txt'), whole);
    writeFileSync(join(cwd, 'odd/c.txt'), `${sentence(5)}caf\uFFFD\r\n`);
    writeFileSync(join(cwd, 'odd/image.txt'), Buffer.from([137, 80, 78, 71, 0]));
    writeFileSync(join(cwd, 'held.txt'), whole);
    const parameters = ['data', 'info', 'odd', '--val-data', 'held.txt', ...small];
    const { status, error } = await run(parameters);
    expect(status).toBe(0);
    expect(error).toMatch(/^warning: .*image\.txt: must be UTF-8 text, got byte 0 at position 4/m);
    expect(error).toContain(
      'warning: 1 held-out documents are trained on word for word: figures on them mean nothing: held.txt (= a.txt)',
    );
    expect(error).toContain('warning: 1 documents occur twice in the training text: b.txt (= a.txt)');
    expect(error).toContain(
      'warning: 1 documents show signs of a bad encoding: c.txt (1 U+FFFD, 1 CRLF line ends)',
    );
    const [event] = parseEvents((await run([...parameters, '--json'])).out).slice(-1);
    expect(event).toMatchObject({
      leaked: [{ name: 'held.txt', sameAs: 'a.txt' }],
      unusable: [{ code: 'data', message: expect.stringContaining('image.txt') }],
    });
  });
  it('suggests the nearest source', async () => {
    const { status, error } = await run(['data', 'info', 'textz']);
    expect([status, error]).toEqual([3, expect.stringContaining(`did you mean "${join(cwd, 'texts')}"?`)]);
  });
});

describe('tokenizer', () => {
  beforeAll(async () => {
    const made = await run([
      'tokenizer',
      'train',
      '--data',
      'texts',
      '--vocab-size',
      '300',
      '--out',
      't',
      '--json',
    ]);
    expect(parseEvents(made.out).map(({ event }) => event)).toEqual(['prepare', 'tokenizer']);
  });
  const text = 'ships and naïve citizens 🙂';

  it('encodes standard input as a whole, or line by line', async () => {
    const whole = await run(['tokenizer', 'encode', 't', '--json'], `${text}\nmore\n`);
    const argument = await run(['tokenizer', 'encode', 't', `${text}\nmore\n`, '--json']);
    expect(whole.out).toBe(argument.out);
    expect((await run(['tokenizer', 'encode', 't', '--file', '-', '--json'], `${text}\nmore\n`)).out).toBe(
      whole.out,
    );
    const lines = await run(['tokenizer', 'encode', 't', '--lines'], `${text}\n\nmore\n`);
    expect(lines.out.split('\n')).toHaveLength(4);
    expect(lines.out.split('\n')[1]).toBe('');
    const back = await run(['tokenizer', 'decode', 't', '--lines'], lines.out);
    expect(back.out).toBe(`${text}\n\nmore\n`);
  });
  it('decodes standard input, characters that lie in several tokens or chunks included', async () => {
    const { out } = await run(['tokenizer', 'encode', 't', text]);
    const ids = out.trim().split(' ');
    expect(ids.length).toBeGreaterThan(8);
    expect((await run(['tokenizer', 'decode', 't'], ids.join('\n'))).out).toBe(`${text}\n`);
    const [event] = parseEvents((await run(['tokenizer', 'decode', 't', '--json'], ids.join(', '))).out);
    expect(event).toEqual({ event: 'text', text });
  });
  it('refuses input that is no text, no ids, or given twice', async () => {
    const cases: readonly (readonly [readonly string[], string | Buffer, number, string])[] = [
      [
        ['encode', 't'],
        Buffer.from([0xe9, 0x0a]),
        3,
        'standard input: must be UTF-8 text, got bytes that are not UTF-8',
      ],
      [
        ['encode', 't'],
        '',
        3,
        'standard input: must be UTF-8 text, got nothing (pipe a text into the command)',
      ],
      [['encode', 't', 'a', '--file', 'b'], '', 2, 'tokenizer encode: must have a text or --file, got both'],
      [['encode', 't', 'a', '--lines'], '', 2, 'must read standard input only, got "a" beside it'],
      [['decode', 't'], '12 x', 2, 'ids: must be whole numbers below 300, got "x"'],
    ];
    for (const [parameters, stdin, expected, message] of cases) {
      const { status, error } = await run(['tokenizer', ...parameters], stdin);
      expect(error).toContain(message);
      expect(status).toBe(expected);
    }
  });
  it('is described, alone and on a text', async () => {
    const { out } = await run(['tokenizer', 'info', 't', '--data', 'texts']);
    expect(out).toMatch(/^kind +BPE, byte level$/m);
    expect(out).toMatch(/^ends a text +<\|endoftext\|> \(0\)$/m);
    expect(out).toMatch(/^comes back the same +yes$/m);
    const [card] = parseEvents((await run(['tokenizer', 'info', 't', '--json'])).out);
    expect(card).toMatchObject({ vocabularySize: 300, merges: 43 });
    expect(card).not.toHaveProperty('text');
  });
});
