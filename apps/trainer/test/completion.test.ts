/** @file Completion, asked of the shells themselves. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { describeCommands } from '../src/completion/command-shape.ts';
import { createProgram } from '../src/program.ts';
import { parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';

const cwd = mkdtempSync(join(tmpdir(), 'moebius-completion-'));
mkdirSync(join(cwd, 'runs-here'));
writeFileSync(join(cwd, 'run here.json'), '{}');
writeFileSync(join(cwd, 'rust.txt'), '');

async function script(shell: string): Promise<string> {
  const { status, out } = await runHere(['completion', shell], { cwd });
  expect(status).toBe(0);
  const file = join(cwd, `.moebius.${shell}`);
  writeFileSync(file, out);
  return file;
}

function isThere(shell: string): boolean {
  return spawnSync(shell, ['--version']).status === 0;
}

function ask(shell: string, parameters: readonly string[], env: NodeJS.ProcessEnv = {}): string[] {
  const { status, stdout, stderr } = spawnSync(shell, parameters, {
    cwd,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, ...env },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Words before the cursor, the last one being completed, and what must be offered. */
const cases: readonly { readonly words: readonly string[]; readonly offered: readonly string[] }[] = [
  { words: ['trai'], offered: ['train'] },
  { words: ['tokenizer', 'd'], offered: ['decode'] },
  { words: ['config', ''], offered: ['print', 'schema', 'validate'] },
  { words: ['train', '--rec'], offered: ['--recipe'] },
  { words: ['train', '--recipe', ''], offered: ['demo', 'reference', 'smoke', 'study'] },
  { words: ['train', '--recipe', 'smoke', '--engine', 'n'], offered: ['native'] },
  { words: ['train', '--data', 'mo'], offered: ['moby-dick'] },
  { words: ['--json', 'train', '--steps', '7', '--no-'], offered: ['--no-sample'] },
  { words: ['config', 'print', '--out-f'], offered: ['--out-file'] },
  { words: ['train', '--resume', 'ru'], offered: ['runs-here'] },
  { words: ['config', 'validate', 'run'], offered: ['run here.json', 'runs-here'] },
  { words: ['completion', ''], offered: ['bash', 'fish', 'zsh'] },
  { words: ['plot', '--x', 's'], offered: ['step'] },
];

describe('the command line as data', () => {
  const sink = { write: () => true };
  const commands = describeCommands(createProgram({ stdout: sink, stderr: sink }, '0', () => async () => {}));

  it('knows every command, and words for every flag that takes a name', () => {
    expect(commands.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['', 'train', 'tokenizer train', 'config print', 'completion']),
    );
    const silent = commands.flatMap(({ path, flags }) =>
      flags
        .filter(
          ({ name, value }) => ['--recipe', '--engine', '--x'].includes(name) && value?.words.length === 0,
        )
        .map(({ name }) => `${path} ${name}`),
    );
    expect(silent).toEqual([]);
  });
  it('describes every flag and command', () => {
    const silent = commands.flatMap(({ flags, commands: inner }) => [...flags, ...inner]);
    expect(silent.filter(({ description }) => description.length < 5)).toEqual([]);
  });
});

describe('completion', () => {
  it('is refused for another shell, and an object with --json', async () => {
    const { status, error } = await runHere(['completion', 'csh'], { cwd });
    expect([status, error]).toEqual([2, expect.stringContaining('Allowed choices are bash, zsh, fish.')]);
    const [event] = parseEvents((await runHere(['completion', 'bash', '--json'], { cwd })).out);
    expect(event).toMatchObject({
      event: 'completion',
      shell: 'bash',
      script: expect.stringContaining('complete -F'),
    });
  });

  it('in bash offers what fits, and only that', async () => {
    const file = await script('bash');
    for (const { words, offered } of [
      ...cases,
      { words: ['train', '--engine', '=', 'w'], offered: ['wasm'] },
      { words: ['train', '--steps', ''], offered: [] },
    ]) {
      const line = ['moebius', ...words].map((word) => `'${word}'`).join(' ');
      const program = `source '${file}'; COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _moebius; printf '%s\\n' "\${COMPREPLY[@]}"`;
      expect(ask('bash', ['--norc', '-c', program]).toSorted(), words.join(' ')).toEqual(offered);
    }
  });

  it.skipIf(!isThere('fish'))('in fish offers what fits (skipped where there is no fish)', async () => {
    const file = await script('fish');
    for (const { words, offered } of cases) {
      const line = ['moebius', ...words].join(' ');
      const lines = ask('fish', ['--no-config', '-c', `source '${file}'; complete -C '${line}'`], {
        HOME: cwd,
      });
      const found = lines.map((text) =>
        (text.split('\t')[0] ?? '').replace(/\/$/, '').replaceAll('\\ ', ' '),
      );
      expect(found, line).toEqual(expect.arrayContaining([...offered]));
      if (offered.length === 1) expect(found, line).toEqual(offered);
    }
  });

  it.skipIf(!isThere('zsh'))('in zsh offers what fits (skipped where there is no zsh)', async () => {
    const file = await script('zsh');
    for (const { words, offered } of cases) {
      const found = ask('zsh', ['-f', '-c', zshProgram(file, words)]);
      expect(found.toSorted(), words.join(' ')).toEqual(offered.map((word) => word).toSorted());
    }
  });
});

/** Calls the function with the shell's own completion builtins replaced by ones that print what they are given. */
function zshProgram(file: string, before: readonly string[]): string {
  const words = ['moebius', ...before].map((word) => `'${word}'`).join(' ');
  return `
    words=(${words}); CURRENT=${before.length + 1}; prefix='${before.at(-1) ?? ''}'
    show() { local word; for word in "$@"; do [[ $word == $prefix* ]] && print -r -- $word; done; true }
    compadd() { shift; show "$@" }
    _describe() { local -a list; list=("\${(@P)argv[-1]}"); show "\${(@)list%%:*}" }
    _files() { local -a found; if [[ $1 == -/ ]]; then found=(*(N/)); else found=(*(N)); fi; show $found }
    compdef() { true }
    source '${file}'
    _moebius`;
}
