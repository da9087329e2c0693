/** @file The help of every command, subcommands included. */
import { describe, expect, it } from 'vitest';

import { describeCommands } from '../src/completion/command-shape.ts';
import { createProgram } from '../src/program.ts';
import { runHere } from './in-process.ts';

const sink = { write: () => true };
const commands = describeCommands(createProgram({ stdout: sink, stderr: sink }, '0', () => async () => {}));

describe('help', () => {
  it('knows commands and subcommands', () => expect(commands.length).toBeGreaterThan(18));
  it.each(commands.map(({ path }) => path))(
    'of "moebius %s" has examples of it, and lists its flags',
    async (path) => {
      const { status, out, error } = await runHere([...path.split(' ').filter(Boolean), '--help'], {
        cwd: '.',
      });
      expect([status, error]).toEqual([0, '']);
      const [, examples = ''] = out.split('\nExamples:\n');
      const lines = examples.split('\n').filter((line) => line.startsWith('  $ '));
      expect(lines.length).toBeGreaterThan(0);
      expect(lines.filter((line) => line.includes(`moebius ${path}`)).length).toBeGreaterThan(0);
      for (const { name } of commands.find((command) => command.path === path)?.flags ?? []) {
        expect(out).toContain(name);
      }
    },
  );
});
