/** @file The command line of today accepts every command that a document or a help text tells people to type. */
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { isMoebiusError } from '@moebius/core';
import { CommanderError } from 'commander';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';

import { exitCodes } from '../src/exit-codes.ts';
import type { Host } from '../src/host.ts';
import { createProgram } from '../src/program.ts';
import { recipes } from '../src/recipes/registry.ts';
import { makeRunConfig } from '../src/run-config.ts';
import type { RunFlags } from '../src/run-config.ts';
import { markdownCommands, shellWords, writtenCommands } from './documented-commands.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const commands = writtenCommands(root);

function silentProgram(start: (flags: unknown) => void = () => {}): Command {
  const host = { stdout: new PassThrough(), stderr: new PassThrough() } as unknown as Host;
  return createProgram(host, '0', () => async (flags) => start(flags));
}

/** What the program says against a command line; undefined when it accepts it. Nothing is started. */
async function objection(words: readonly string[]): Promise<string | undefined> {
  let flags: (RunFlags & { readonly resume?: string }) | undefined;
  const program = silentProgram((given) => {
    flags = given as RunFlags;
  });
  try {
    await program.parseAsync([...words], { from: 'user' });
    if (flags === undefined || flags.config !== undefined || flags.resume !== undefined) return undefined;
    if (flags.recipe === undefined && flags.set === undefined) return undefined;
    await makeRunConfig(flags, { engine: 'native', workingFolder: root });
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined;
    // A folder or file of the reader's own need not be there.
    if (isMoebiusError(error, 'io')) return undefined;
    return error instanceof Error ? error.message : String(error);
  }
}

/** The first name of a form (`tokenizer train|encode`) that is no command. */
function unknownName(words: readonly string[], command: Command = silentProgram()): string | undefined {
  const [names, ...rest] = words;
  // A placeholder (`<command>`) stands for any name.
  if (names === undefined || !/^[a-z]/.test(names) || command.commands.length === 0) return undefined;
  for (const name of names.split('|')) {
    const found = command.commands.find((candidate) => candidate.name() === name);
    const fault = found === undefined ? name : unknownName(rest, found);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

describe('every command that is written down', () => {
  it('is found: in READMEs, how-to pages and help texts', () => {
    const files = new Set(commands.map(({ place }) => place.replace(/:\d+$/, '')));
    expect([...files]).toEqual(
      expect.arrayContaining(['README.md', 'apps/trainer/README.md', 'apps/trainer/src/program.ts']),
    );
    expect(commands.length).toBeGreaterThan(40);
  });

  it.each(commands.filter(({ isForm }) => !isForm).map(({ place, words }) => [place, words] as const))(
    '%s: moebius %j is accepted',
    async (_place, words) => {
      expect(await objection(words)).toBe(undefined);
    },
  );

  it.each(commands.filter(({ isForm }) => isForm).map(({ place, words }) => [place, words] as const))(
    '%s: the command of the form %j exists',
    (_place, words) => expect(unknownName(words)).toBe(undefined),
  );
});

describe("the app's README", () => {
  const readme = readFileSync(`${root}/apps/trainer/README.md`, 'utf8');

  it('has a row for every command and every recipe', () => {
    const rows = readme.split('\n').filter((line) => line.startsWith('| `'));
    const names = silentProgram().commands.map((command) => `| \`moebius ${command.name()}`);
    for (const start of [...names, ...recipes.names().map((name) => `| \`${name}\``)]) {
      expect(rows.filter((row) => row.startsWith(start))).toHaveLength(1);
    }
  });
  it('has a row for every exit status', () => {
    const rows = [...readme.matchAll(/^\| (\d+) \|/gm)].map(([, status]) => Number(status));
    expect(rows).toEqual(expect.arrayContaining(Object.values(exitCodes)));
    expect(rows).toEqual([...new Set(rows)].toSorted((a, b) => a - b));
  });
});

describe('a command that is no longer true', () => {
  it.each([
    ['trian', "error: unknown command 'trian'"],
    ['train --step 3', "error: unknown option '--step'"],
    ['train --batch 0', 'Must be a whole number of at least 1.'],
    ['train --set losses.loadBalanse=1', 'did you mean losses.loadBalance?'],
    ['bench --recipe demmo', 'did you mean "demo"'],
    ['tokenizer train --data x', "error: required option '--out <folder>' not specified"],
    ['generate', "error: missing required argument 'model'"],
    ['plot', "error: missing required argument 'runs'"],
  ])('is refused: %s', async (line, why) => {
    expect(await objection(shellWords(line))).toContain(why);
  });

  it('is refused in a form', () => {
    expect(unknownName(['tokenizer', 'train|recode'])).toBe('recode');
    expect(unknownName(['trian', '<model>'])).toBe('trian');
  });

  it('is seen in blocks, behind a prompt, across lines and in sentences, with its line', () => {
    const text = [
      'Use `moebius eval <model>` or `moebius doctor`.',
      '```sh',
      '$ MOEBIUS_CACHE=x npx moebius train \\',
      '  --set "a=b c"   # why',
      'npx @moebius/trainer plot runs/* | less',
      '```',
      '```ts',
      'moebius train --not-a-shell',
      '```',
    ].join('\n');
    expect(markdownCommands('a.md', text)).toEqual([
      { place: 'a.md:1', words: ['eval', '<model>'], isForm: true },
      { place: 'a.md:1', words: ['doctor'], isForm: true },
      { place: 'a.md:4', words: ['train', '--set', 'a=b c'], isForm: false },
      { place: 'a.md:5', words: ['plot', 'runs/*'], isForm: false },
    ]);
  });
});
