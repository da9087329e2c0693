import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Command, Option } from 'commander';
import { describe, expect, it } from 'vitest';

import { createProgram } from './program.ts';
import { makeRunConfig } from './run-config.ts';
import type { RunFlags } from './run-config.ts';

/** Flags that decide something else than the configuration of a run, and what that is. */
const apart: { readonly [flag: string]: string } = {
  '--config': 'where the configuration comes from',
  '--resume': 'takes the configuration of a run as it is',
  '--overwrite': 'what may happen to the output folder',
  '--no-sample': 'what is shown at the end',
  '--log-steps': 'how often a line of progress is printed',
  '--out-file': 'where the configuration is printed to',
};

/** One line with every other flag; those that exclude each other stand in several lines. */
const examples: { readonly [flag: string]: readonly (readonly string[])[] } = {
  '--recipe': [['study'], ['reference'], ['demo']],
  '--data': [['./texts'], ['sotu'], ['texts/**/*.jsonl']],
  '--val-data': [['held.txt'], ['sotu']],
  '--replay': [['sotu'], ['./texts']],
  '--field': [['body']],
  '--tokenizer': [['tokens/tokenizer.json']],
  '--init-from': [['saved']],
  '--ema': [['0.99']],
  '--early-stop': [['3']],
  '--on-nonfinite': [['skip']],
  '--steps': [['7']],
  '--minutes': [['0.25']],
  '--batch': [['3']],
  '--sequence': [['48']],
  '--lr': [['0.00021']],
  '--seed': [['11']],
  '--engine': [['wasm'], ['cpu']],
  '--threads': [['1']],
  '--out': [['runs/elsewhere']],
  '--tensorboard': [[], ['boards']],
  '--set': [
    ['model.num_experts=4'],
    ['optimizer.clipNorm=null'],
    ['schedule.warmupSteps=5'],
    ['losses.pooling=pooled'],
    ['name=another'],
  ],
};
/** What a flag needs beside it to say anything. */
const companions: { readonly [flag: string]: readonly string[] } = { '--field': ['--data', 'texts'] };

const folder = mkdtempSync(join(tmpdir(), 'moebius-round-'));
mkdirSync(join(folder, 'saved'));
writeFileSync(join(folder, 'saved', 'config.json'), '{}');
const surroundings = { engine: 'native', workingFolder: folder } as const;

/** The flags of a command line, as commander gives them to the work. */
async function parse(command: string, parameters: readonly string[]): Promise<RunFlags> {
  let seen: unknown;
  const sink = { write: () => true };
  const program = createProgram({ stdout: sink, stderr: sink }, '0', () => async (flags) => {
    seen = flags;
  });
  await program.parseAsync([...command.split(' '), ...parameters], { from: 'user' });
  return seen as RunFlags;
}

function optionsOf(...path: readonly string[]): readonly Option[] {
  const sink = { write: () => true };
  let command: Command = createProgram({ stdout: sink, stderr: sink }, '0', () => async () => undefined);
  for (const name of path) command = command.commands.find((inner) => inner.name() === name)!;
  return command.options;
}

const flags = [...optionsOf('train'), ...optionsOf('config', 'print')]
  .map(({ long }) => long ?? '')
  .filter((flag, index, all) => all.indexOf(flag) === index && !(flag in apart));

describe('a flag and the file that config print makes', () => {
  it('are in the table here, each with an example', () => {
    expect(flags.filter((flag) => !(flag in examples))).toEqual([]);
    expect(flags.length).toBeGreaterThan(12);
  });
  it('config print takes every flag of train that changes a configuration', () => {
    const printed = optionsOf('config', 'print').map(({ long }) => long);
    const trained = optionsOf('train').map(({ long }) => long ?? '');
    expect(trained.filter((flag) => !printed.includes(flag) && !(flag in apart))).toEqual([]);
  });
  it.each(flags.flatMap((flag) => (examples[flag] ?? []).map((values) => [flag, ...values])))(
    '%s %s: flag to file and back is the same run, and another than without the flag',
    async (flag, ...values) => {
      const base = flag === '--recipe' ? [] : ['--recipe', 'smoke'];
      const beside = companions[flag] ?? [];
      const plain = await makeRunConfig(
        await parse('config print', ['--recipe', 'smoke', ...beside]),
        surroundings,
      );
      const parameters = [...base, ...beside, flag, ...values];
      const flagged = await makeRunConfig(await parse('train', parameters), surroundings);
      expect(await makeRunConfig(await parse('config print', parameters), surroundings)).toEqual(flagged);
      expect(flagged).not.toEqual(plain);
      const file = join(folder, 'printed.json');
      writeFileSync(file, JSON.stringify(flagged));
      const again = await makeRunConfig(await parse('train', ['--config', file]), surroundings);
      expect(JSON.stringify(again)).toBe(JSON.stringify(flagged));
    },
  );
  it('a flag wins over the file, and --set over both', async () => {
    const file = join(folder, 'base.json');
    writeFileSync(file, JSON.stringify(await makeRunConfig({ recipe: 'smoke' }, surroundings)));
    const set = ['--set', 'batch.sequences=5'];
    const config = (...more: string[]) => parse('train', ['--config', file, ...more]);
    const sequences = async (...more: string[]) =>
      (await makeRunConfig(await config(...more), surroundings)).batch.sequences;
    expect(await sequences()).toBe(8);
    expect(await sequences('--batch', '3')).toBe(3);
    expect(await sequences('--batch', '3', ...set)).toBe(5);
  });
});
