/** @file `moebius generate` as a person meets it: the built command on a pseudo-terminal, driven by python3. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius } from './built-cli.ts';

const driver = fileURLToPath(new URL('./terminal-driver.py', import.meta.url));
const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
// os.waitstatus_to_exitcode is there from Python 3.9 on; pseudo-terminals are not there on Windows.
const canDrive = spawnSync('python3', ['-c', 'import pty, os; os.waitstatus_to_exitcode']).status === 0;

const ctrlC = '\u0003';
const ctrlD = '\u0004';
const arrowUp = '\u001b[A';
const pasteStart = '\u001b[200~';
const pasteEnd = '\u001b[201~';

type Step = { readonly expect: string } | { readonly send: string; readonly pieces?: boolean };
const see = (text: string): Step => ({ expect: text });
const type = (text: string, pieces = false): Step => ({ send: Buffer.from(text).toString('hex'), pieces });

describe.skipIf(!canDrive)('the prompt (skipped where python3 cannot make a pseudo-terminal)', () => {
  let cwd = '';
  let state = '';
  beforeAll(() => {
    buildCli();
    cwd = makeProject();
    state = join(cwd, 'state');
    const long = ['--set', 'model.max_position_embeddings=4096'];
    const trained = moebius(
      ['train', '--config', 'run.json', '--steps', '4', '--out', 'runs/one', '--no-sample', ...long],
      { cwd },
    );
    expect(trained.status).toBe(0);
  }, 400_000);

  /** A session; greedy, so that a long text does not end by chance. */
  function sit(
    steps: readonly Step[],
    { flags = [], columns = 80 }: { readonly flags?: readonly string[]; readonly columns?: number } = {},
  ): { shown: string; status: number | null } {
    const command = [process.execPath, cli, 'generate', 'runs/one', '--temperature', '0', ...flags];
    const env = { MOEBIUS_STATE: state, TERM: 'xterm', NO_COLOR: '1', CI: '', FORCE_COLOR: '' };
    const plan = { command, cwd, env, columns, seconds: 60, steps };
    const { stdout, stderr } = spawnSync('python3', [driver, JSON.stringify(plan)], { encoding: 'utf8' });
    expect(stderr).toBe('');
    const { shown, status, missing } = JSON.parse(stdout) as {
      shown: string;
      status: number | null;
      missing: string | null;
    };
    expect(missing, `waited for it in vain; shown: ${shown}`).toBe(null);
    return { shown, status };
  }

  it('answers what is typed, and leaves at Ctrl-D with status 0', () => {
    const { shown, status } = sit(
      [
        see('Ctrl-C ends a text'),
        see('> '),
        type('the License\r'),
        see('per second'),
        see('> '),
        type(ctrlD),
      ],
      { flags: ['--max-tokens', '5'] },
    );
    expect(status).toBe(0);
    expect(shown).toContain('the License');
    expect(shown.endsWith('\u001b[?2004l')).toBe(true);
  });

  it('ends a text at Ctrl-C and goes on; a second Ctrl-C leaves', () => {
    const { shown, status } = sit(
      [
        see('> '),
        type('endless\r'),
        see('endless'), // as it is typed
        see('endless'), // as the text begins with it
        type(ctrlC),
        see('> '),
        type('again\r'),
        see('again'),
        see('again'),
        type(ctrlC),
        see('> '),
        type(ctrlC),
      ],
      { flags: ['--max-tokens', '3900'] },
    );
    expect(status).toBe(0);
    expect(shown).not.toContain('per second');
    expect(shown).not.toContain('error');
  });

  it('brings lines of an earlier session back, from a file that only its owner can read', () => {
    const flags = ['--max-tokens', '3'];
    sit([see('> '), type('remember naïve 🙂\r'), see('per second'), see('> '), type(ctrlD)], { flags });
    const file = join(state, 'prompt-history');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toContain('"remember naïve 🙂"\n');
    const steps = [
      see('> '),
      type(arrowUp),
      see('remember naïve 🙂'),
      type('\r'),
      see('per second'),
      type(ctrlD),
    ];
    expect(sit(steps, { flags }).status).toBe(0);
  });

  it('with --no-history neither shows nor keeps lines', () => {
    const file = join(state, 'prompt-history');
    const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
    const { shown } = sit(
      [see('> '), type(`${arrowUp}private\r`), see('per second'), see('> '), type(ctrlD)],
      { flags: ['--max-tokens', '3', '--no-history'] },
    );
    expect(shown).not.toContain('remember');
    expect(existsSync(file) ? readFileSync(file, 'utf8') : '').toBe(before);
  });

  it('takes characters byte by byte, a paste of several lines as one prompt, on a narrow terminal', () => {
    const { shown, status } = sit(
      [
        see('> '),
        type('né🙂', true),
        see('🙂'),
        type('\r'),
        see('per second'),
        see('> '),
        type(`${pasteStart}first line\rsecond line${pasteEnd}\r`),
        see('first line\r\nsecond line'),
        see('per second'),
        see('> '),
        type(ctrlD),
      ],
      { flags: ['--max-tokens', '3', '--no-history'], columns: 20 },
    );
    expect(status).toBe(0);
    expect(shown).toContain('né🙂');
    expect(shown.match(/per second/g)).toHaveLength(2);
  });
});
