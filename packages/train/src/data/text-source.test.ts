import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readTextSource } from './text-source.ts';

let folder = '';
const options = { cacheFolder: '' };
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-text-'));
  await mkdir(at('books/deep'), { recursive: true });
  await writeFile(at('books/b.txt'), 'second');
  await writeFile(at('books/a.txt'), '\uFEFFfirst');
  await writeFile(
    at('books/deep/c.jsonl'),
    '{"text":"third","body":"x"}\n\n{"text":"  "}\n{"text":"fourth"}\n',
  );
  await writeFile(at('books/ignored.md'), 'not read');
  await mkdir(at('nothing'));
  await writeFile(at('empty.txt'), '');
  await writeFile(at('blank.txt'), ' \n\n ');
  await writeFile(at('zero.txt'), Buffer.from([65, 0, 66]));
  await writeFile(at('latin.txt'), Buffer.from([65, 0xe9, 66]));
  await writeFile(at('broken.jsonl'), '{"text":"fine"}\n{"text":');
  await writeFile(at('number.jsonl'), '{"text":3}');
  await writeFile(at('other.jsonl'), '{"body":"b","title":"t"}');
  await writeFile(at('list.jsonl'), '[1]\nnull');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('readTextSource', () => {
  it('reads a folder: .txt files and lines of .jsonl files, by name, without byte-order mark and empty lines', async () => {
    expect(await readTextSource({ path: at('books') }, options)).toEqual([
      { name: 'a.txt', text: 'first' },
      { name: 'b.txt', text: 'second' },
      { name: 'deep/c.jsonl#1', text: 'third' },
      { name: 'deep/c.jsonl#4', text: 'fourth' },
    ]);
  });

  it('reads a single file', async () => {
    expect(await readTextSource({ path: at('books/b.txt') }, options)).toEqual([
      { name: 'b.txt', text: 'second' },
    ]);
  });

  it('reads what a glob matches, whatever its ending', async () => {
    const documents = await readTextSource({ path: join(folder, 'books', '*.{md,txt}') }, options);
    expect(documents.map(({ text }) => text)).toEqual(['first', 'second', 'not read']);
  });

  it('reads another field', async () => {
    const [document] = await readTextSource({ path: at('other.jsonl'), field: 'body' }, options);
    expect(document?.text).toBe('b');
  });

  it.each([
    ['empty.txt', /empty\.txt: must contain text, got an empty file/],
    ['blank.txt', /got only white space/],
    ['zero.txt', /must be UTF-8 text, got byte 0 at position 1 \(is it a binary file\?/],
    ['latin.txt', /must be UTF-8 text, got bytes that are not UTF-8/],
    ['broken.jsonl', /broken\.jsonl, line 2: must be a JSON object with a string "text", got /],
    ['number.jsonl', /line 1: .* got number/],
    ['other.jsonl', /got only the fields body, title \(name the field that holds the text\)/],
    ['list.jsonl', /line 1: must be a JSON object/],
  ])('refuses %s', async (name, message) => {
    await expect(readTextSource({ path: at(name) }, options)).rejects.toThrow(message);
  });

  it('suggests the nearest name for a path that does not exist', async () => {
    await expect(readTextSource({ path: at('boks') }, options)).rejects.toThrow(
      /which does not exist \(did you mean ".*books"\?\)/,
    );
    await expect(readTextSource({ path: at('zzzzzzzzz') }, options)).rejects.toThrow(/has no such name/);
  });

  it('says what a folder or glob without text holds', async () => {
    await expect(readTextSource({ path: at('nothing') }, options)).rejects.toThrow(
      /must hold .txt or .jsonl files, got 0 other entries/,
    );
    await expect(readTextSource({ path: join(folder, '*.xyz') }, options)).rejects.toThrow(
      /must match files, got none/,
    );
  });
});
