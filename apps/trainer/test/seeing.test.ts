/** @file What a run shows: `--json` as the README documents it, the progress line, TensorBoard, exit statuses. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { SkipEvent } from '@moebius/train';
import { beforeAll, describe, expect, it } from 'vitest';

import { exitMeanings } from '../src/exit-codes.ts';
import { makeProject, parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown, Surroundings } from './in-process.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

/** Every field of the event; the type says so. */
const skip: Required<SkipEvent> = {
  kind: 'skip',
  step: 3,
  fraction: 0.5,
  reason: 'cross-entropy',
  layer: null,
  parameter: null,
  inRow: 1,
  total: 1,
  stepMs: 1,
};

let folder = '';
let told: ReturnType<typeof parseEvents> = [];
beforeAll(async () => {
  folder = makeProject();
  const flags = ['--steps', '4', '--out', 'runs/a', '--tensorboard', '--json'];
  const { status, out, error } = await train(flags);
  expect({ status, error }).toEqual({ status: 0, error: '' });
  told = parseEvents(out);
}, 120_000);

function train(flags: readonly string[], more: Partial<Surroundings> = {}): Promise<Shown> {
  return runHere(['train', '--config', 'run.json', '--set', 'evaluation.everySteps=2', ...flags], {
    cwd: folder,
    ...more,
  });
}

/** Rows of the README's table with this heading: the first cell without its marks, and the second. */
function tableOf(heading: string): [string, string][] {
  const table = readme.slice(readme.indexOf(heading)).split('\n\n')[0] ?? '';
  const rows = table.split('\n').slice(2);
  return rows.map((row) => {
    const [, first = '', second = ''] = row.split(' | ').join('|').split('|');
    return [first.trim().replaceAll('`', ''), second.trim()];
  });
}

describe('train --json', () => {
  const documented = Object.fromEntries(
    tableOf('| `event` of').map(([event, fields]) => {
      const notes = fields.replaceAll(/\([^)]*\)/g, '');
      return [event, [...notes.matchAll(/`([^`]+)`/g)].map(([, name]) => name)];
    }),
  );

  it('prints the events and fields of the README, in every event', () => {
    const kinds = new Set(told.map(({ event }) => event));
    expect(['engine', 'prepare', 'start', 'step', 'evaluate', 'save', 'end', 'sample']).toEqual(
      [...kinds].toSorted(byFirst),
    );
    for (const { event, ...fields } of told) {
      expect(Object.keys(fields).toSorted(), event).toEqual(documented[event]?.toSorted());
    }
  });
  it('prints the other events of the README where they happen', async () => {
    const { out } = await train(['--set', 'model.num_expert=4', '--json']);
    const [{ event, ...fields } = { event: '' }] = parseEvents(out);
    expect(event).toBe('error');
    expect(Object.keys(fields)).toEqual(documented['error']);
    const { kind: _kind, ...skipped } = skip;
    expect(Object.keys(skipped).toSorted()).toEqual(documented['skip']?.toSorted());
    // Others bring these about: runs that are stopped, that meet numbers that are not finite, and kept recipes.
    const known = new Set([...told.map((one) => one.event), 'error', 'interrupted', 'cached', 'skip']);
    expect(Object.keys(documented).toSorted()).toEqual([...known].toSorted());
  });
  it('tells the same numbers as the metrics file', () => {
    const records = readFileSync(join(folder, 'runs/a/metrics.jsonl'), 'utf8').trim().split('\n');
    const steps = records.map((line) => JSON.parse(line) as { [key: string]: unknown });
    const written = steps.filter((record) => 'train/loss' in record);
    const shown = told.filter(({ event }) => event === 'step');
    expect(shown.map(({ loss, mfu, routing }) => [loss, mfu, routing])).toEqual(
      written.map((record) => [record['train/loss'], record['train/mfu'], record['routing/layers']]),
    );
    const [start] = told.filter(({ event }) => event === 'start');
    for (const { mfu, flopsPerSecond } of shown) {
      expect(mfu).toBeCloseTo((flopsPerSecond as number) / (start?.['matmulFlopsPerSecond'] as number), 12);
      expect(mfu).toBeGreaterThan(0);
    }
  });

  function byFirst(a: string, b: string): number {
    const order = told.map(({ event }) => event);
    return order.indexOf(a) - order.indexOf(b);
  }
});

describe('train for people', () => {
  it('redraws a line with everything on a wide terminal, and less on a narrow one', async () => {
    const drawn = async (columns: number): Promise<string[]> => {
      const { status, out } = await train(['--steps', '3', '--no-sample'], { columns, isTty: true });
      expect(status).toBe(0);
      return out
        .split('\r')
        .map((line) => line.split('\u001b')[0] ?? '')
        .filter((line) => line.includes('3/3'));
    };
    const wide = (await drawn(200)).at(-1);
    expect(wide).toMatch(
      /^tiny {2}━{20} {2}3\/3 {2}loss [\d.]+ {2}[\d.]+( k)? tok\/s {2}0\.0 s left {2}MFU \d+ % {2}experts [▁-█]{2} {2}grad [\d.]+ {2}lr [\d.e-]+$/,
    );
    const narrow = await drawn(40);
    expect(narrow.length).toBeGreaterThan(0);
    for (const line of narrow) expect(line).toMatch(/^3\/3 {2}loss [\d.]+ .{0,28}$/);
  });
  it('prints plain lines in a log, every so many steps when asked', async () => {
    const { out, error } = await train(['--steps', '6', '--no-sample', '--log-steps', '2'], {
      env: { CI: 'true' },
      isTty: true,
    });
    expect(`${out}${error}`).not.toContain('\r');
    expect(`${out}${error}`).not.toContain('\u001b');
    const steps = [
      ...out.matchAll(/^step (\d)\/6 {2}loss .* tok\/s .* left {2}MFU .* experts .* grad .* lr .*$/gm),
    ];
    expect(steps.map(([, step]) => step)).toEqual(['2', '4', '6']);
    expect(out).toMatch(/matrix products run at [\d.]+ [GMT]FLOP\/s here/);
  });
});

describe('--tensorboard', () => {
  it('writes into the output folder, or into the folder it names, from where the command was given', async () => {
    expect(readdirSync(join(folder, 'runs/a/tensorboard'))).toHaveLength(1);
    const flags = ['--steps', '1', '--no-sample', '--out', 'runs/b'];
    expect((await train([...flags, '--tensorboard', 'boards'])).status).toBe(0);
    expect(readdirSync(join(folder, 'boards'))).toHaveLength(1);
    expect(existsSync(join(folder, 'runs/b/tensorboard'))).toBe(false);
  });
  it('needs a folder when the run has none', async () => {
    const { status, error } = await train(['--steps', '1', '--tensorboard']);
    expect(status).toBe(2);
    expect(error).toContain('tensorboard: must be a folder when the run has no output, got true');
  });
});

describe('the exit statuses', () => {
  it('of the README are those of --help', () => {
    const rows = tableOf('| exit status |').map(([status, meaning]) => ({ status: Number(status), meaning }));
    expect(rows).toEqual(exitMeanings);
  });
});
