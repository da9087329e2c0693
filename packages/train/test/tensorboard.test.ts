/**
 * @file TensorBoard's event files: the bytes are those of Python's writer, a run's numbers are all there, and Python's
 * own reader understands them. For the last, `MOEBIUS_PYTHON` names a Python with the package tensorboard.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createTensorBoardCallback, defineCallback } from '../src/index.ts';
import type { TrainConfigInput, TrainerOptions } from '../src/index.ts';
import { encodeEvent } from '../src/tensorboard/event.ts';
import type { EventContent } from '../src/tensorboard/event.ts';
import { encodeRecord } from '../src/tensorboard/record.ts';
import { readEventFolder, readEvents } from './event-file-oracle.ts';
import { runToEnd, smallConfig, smallOptions, useWorkplace } from './small-run.ts';

const python = process.env['MOEBIUS_PYTHON'] ?? 'python3';
const hasTensorBoard = spawnSync(python, ['-c', 'import tensorboard']).status === 0;
const note = hasTensorBoard ? '' : ` (skipped: ${python} has no tensorboard; set MOEBIUS_PYTHON)`;

const place = useWorkplace();

describe('an event', () => {
  it('has the bytes that Python writes', () => {
    const events: [number, EventContent][] = [
      [0, { kind: 'version' }],
      [6, { kind: 'session-start' }],
      [
        0,
        {
          kind: 'summary',
          values: [{ tag: 'config/text_summary', kind: 'text', text: '    { "name": "naïve 日本" }' }],
        },
      ],
      [
        70_000,
        {
          kind: 'summary',
          values: [
            { tag: 'train/loss', kind: 'scalar', value: 2.5 },
            { tag: 'train/zero', kind: 'scalar', value: 0 },
            { tag: 'train/third', kind: 'scalar', value: 1 / 3 },
            { tag: 'routing/layer_0/load', kind: 'counts', counts: [3, 0, 5, 1] },
            { tag: 'routing/layer_1/load', kind: 'counts', counts: [0, 0] },
          ],
        },
      ],
      [3_000_000_000, { kind: 'summary', values: [{ tag: 'eval/loss', kind: 'scalar', value: Infinity }] }],
    ];
    const records = events.map(([step, content]) =>
      encodeRecord(encodeEvent({ wallTime: 1_700_000_000.25, step }, content)),
    );
    const golden = readFileSync(join(import.meta.dirname, '__fixtures__/tensorboard-python.tfevents'));
    expect(Buffer.concat(records).toString('hex')).toBe(golden.toString('hex'));
  });
  it('is read back as it was, whatever its numbers and names', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: Number.MAX_SAFE_INTEGER }),
        fc.dictionary(fc.string({ minLength: 1 }), fc.float(), { noNullPrototype: true }),
        fc.array(fc.nat(), { minLength: 1 }),
        (step, scalars, counts) => {
          const values = Object.entries(scalars).map(([tag, value]) => ({
            tag,
            kind: 'scalar' as const,
            value,
          }));
          const histogram = { tag: 'load', kind: 'counts' as const, counts };
          const content = { kind: 'summary' as const, values: [...values, histogram] };
          const [event] = readEvents(
            Buffer.from(encodeRecord(encodeEvent({ wallTime: 0.5, step }, content))),
          );
          expect(event).toMatchObject({ wallTime: 0.5, step });
          expect(Object.entries(event!.scalars)).toEqual(Object.entries(scalars));
          expect(event!.histograms['load']!.counts).toEqual(counts);
        },
      ),
    );
  });
});

/** A small run whose wall clock moves a second at every look; steps 4, evaluations at 2 and at the end. */
async function run(
  parts: Partial<TrainConfigInput>,
  more: Partial<TrainerOptions> = {},
): Promise<{ readonly records: readonly { [name: string]: unknown }[]; readonly output: string }> {
  const output = parts.output ?? place.freshOutput();
  let second = 1_700_000_000;
  const config = smallConfig(place, {
    output,
    duration: { steps: 4 },
    evaluation: { everySteps: 2, tokens: 100, finalTokens: 200 },
    ...parts,
  });
  await runToEnd(config, smallOptions(place, { wallTimeMs: () => 1000 * second++, ...more }));
  const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return { output, records: lines.map((line) => JSON.parse(line) as { [name: string]: unknown }) };
}

/** A clock that moves a millisecond at every look, so that rates are finite. */
function tickingClock(): TrainerOptions['clock'] {
  let now = 0;
  return { nowMs: () => ++now };
}

describe('a run with tensorboard', () => {
  it('writes every number of its metrics, at its step, and its configuration', async () => {
    const { output, records } = await run(
      { tensorboard: true, name: 'naïve 日本' },
      { clock: tickingClock(), matmulFlopsPerSecond: 1e12, residentBytes: () => 7 },
    );
    const [name] = readdirSync(join(output, 'tensorboard'));
    expect(name).toMatch(/^events\.out\.tfevents\.1700000000\..+/);
    const [events = []] = readEventFolder(join(output, 'tensorboard'));
    expect(events[0]).toMatchObject({ version: 'brain.Event:2', step: 0 });
    expect(events[1]).toMatchObject({ isSessionStart: true, step: 0 });
    const texts = events[2]!.texts;
    expect(JSON.parse(texts['config/text_summary']!)).toMatchObject({
      name: 'naïve 日本',
      batch: { length: 32 },
    });
    expect(JSON.parse(texts['sizes/text_summary']!)).toMatchObject({ tokensPerStep: 128 });

    const told = events.slice(3).map(({ step, scalars }) => ({ step, scalars }));
    expect(told).toEqual(records.map(({ step, ...metrics }) => ({ step, scalars: numbersOf(metrics) })));
    const wanted = ['train/loss', 'train/mfu', 'train/aux/load-balance', 'routing/layer_1/imbalance'];
    for (const tag of wanted) expect(told[0]!.scalars, tag).toHaveProperty([tag]);
    expect(told.at(-1)!.scalars).toHaveProperty(['eval/baselines/gzip']);
    const times = events.map(({ wallTime }) => wallTime);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times[0]).toBeGreaterThan(1_700_000_000);
  });
  it('shows the loads of experts as histograms, now and then', async () => {
    const folder = join(place.folder, 'histograms');
    const tensorboard = createTensorBoardCallback({ folder, wallTimeMs: () => 0, histogramEverySteps: 2 });
    const { records } = await run({}, { callbacks: [tensorboard] });
    const [events = []] = readEventFolder(folder);
    const drawn = events.filter(({ histograms }) => Object.keys(histograms).length > 0);
    expect(drawn.map(({ step }) => step)).toEqual([2, 4]);
    const step = records.find((record) => record['step'] === 2)!;
    const [, second] = step['routing/layers'] as { load: number[] }[];
    const { limits, counts, sums } = drawn[0]!.histograms['routing/layer_1/load']!;
    expect(counts).toEqual(second!.load);
    expect(limits).toEqual([0.5, 1.5, 2.5, 3.5]);
    expect(sums.slice(0, 3)).toEqual([-0.5, 3.5, 4 * 32 * 2]);
  });
  it('goes on in a second file that begins at the first step after the checkpoint', async () => {
    const controller = new AbortController();
    const stop = defineCallback({
      name: 'stop',
      onStep: ({ step }) => (step === 3 ? controller.abort() : undefined),
    });
    const tensorboard = true;
    const { output } = await run({ tensorboard }, { callbacks: [stop], signal: controller.signal });
    await run({ tensorboard, output }, { existing: 'resume' });
    const [first = [], second = []] = readEventFolder(join(output, 'tensorboard'));
    const lossSteps = (events: typeof first): number[] =>
      events.filter(({ scalars }) => 'train/loss' in scalars).map(({ step }) => step);
    expect([lossSteps(first), lossSteps(second)]).toEqual([[1, 2, 3], [4]]);
    expect(second[1]).toMatchObject({ isSessionStart: true, step: 4 });
    expect(second.some(({ texts }) => Object.keys(texts).length > 0)).toBe(false);
  });
  it('begins anew when its run does', async () => {
    const { output } = await run({ tensorboard: true, duration: { steps: 2 } });
    await run({ tensorboard: true, output, duration: { steps: 1 } }, { existing: 'overwrite' });
    expect(readdirSync(join(output, 'tensorboard'))).toHaveLength(1);
  });
  it('writes nothing unless it is asked to', async () => {
    const { output } = await run({ duration: { steps: 1 } });
    expect(readdirSync(output)).not.toContain('tensorboard');
  });
  it('takes a folder of its own, and needs one without an output', async () => {
    const folder = join(place.folder, 'boards', 'one');
    await run({ tensorboard: folder, duration: { steps: 1 } });
    expect(readdirSync(folder)).toHaveLength(1);
    await expect(runToEnd(smallConfig(place, { tensorboard: true }), smallOptions(place))).rejects.toThrow(
      'tensorboard: must be a folder when the run has no output, got true (name a folder, or give the run an output)',
    );
  });
  it('says which folder it cannot write', async () => {
    const file = join(place.folder, 'occupied');
    writeFileSync(file, '');
    const failed = run({ tensorboard: join(file, 'x') });
    await expect(failed).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(
        /^tensorboard: must be able to write .*occupied\/x, got ENOTDIR.* \(free space, or name another folder\)$/,
      ),
    });
  });
});

/** Every number of a record by the name that TensorBoard gets, in float32. */
function numbersOf(metrics: { readonly [name: string]: unknown }): { [tag: string]: number } {
  const found: { [tag: string]: number } = {};
  const walk = (name: string, value: unknown): void => {
    if (typeof value === 'number') found[name] = Math.fround(value);
    else if (name === 'routing/layers')
      (value as { layer: number }[]).forEach(({ layer, ...rest }) => {
        for (const [key, part] of Object.entries(rest))
          if (key !== 'load') walk(`routing/layer_${layer}/${key}`, part);
      });
    else for (const [key, part] of Object.entries(value as object)) walk(`${name}/${key}`, part);
  };
  for (const [name, value] of Object.entries(metrics)) walk(name, value);
  return found;
}

const readWithPython = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.util import tensor_util
board = EventAccumulator(sys.argv[1], size_guidance={"histograms": 0, "scalars": 0, "tensors": 0})
board.Reload()
new = plugin_event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"tensors": 0})
new.Reload()
tags = board.Tags()
text = lambda tag: tensor_util.make_ndarray(board.Tensors(tag)[0].tensor_proto)[0].decode()
print(json.dumps({
    "scalars": {tag: [[e.step, e.value, e.wall_time] for e in board.Scalars(tag)] for tag in tags["scalars"]},
    "histograms": {tag: [[e.step, e.histogram_value.num, list(e.histogram_value.bucket)] for e in board.Histograms(tag)]
                   for tag in tags["histograms"]},
    "texts": {tag: text(tag) for tag in tags["tensors"]},
    "plugins": {name: sorted(new.PluginTagToContent(name)) for name in new.ActivePlugins()},
}))
`;

describe('Python', () => {
  it.skipIf(!hasTensorBoard)(`reads a run that was stopped and resumed${note}`, async () => {
    const controller = new AbortController();
    const stop = defineCallback({
      name: 'stop',
      onStep: ({ step }) => (step === 3 ? controller.abort() : undefined),
    });
    const options = { clock: tickingClock(), matmulFlopsPerSecond: 1e12 };
    const tensorboard = true;
    const { output } = await run(
      { tensorboard },
      { ...options, callbacks: [stop], signal: controller.signal },
    );
    const { records } = await run({ tensorboard, output }, { ...options, existing: 'resume' });
    const read = readBoard(join(output, 'tensorboard'));

    const wanted: { [tag: string]: number[][] } = {};
    for (const { step, ...metrics } of records) {
      for (const [tag, value] of Object.entries(numbersOf(metrics)))
        (wanted[tag] ??= []).push([step as number, value]);
    }
    const told = Object.entries(read.scalars).map(([tag, points]) => [
      tag,
      points.map((one) => one.slice(0, 2)),
    ]);
    expect(Object.fromEntries(told)).toEqual(wanted);
    expect(wanted['train/loss']!.map(([step]) => step)).toEqual([1, 2, 3, 4]);
    expect(JSON.parse(read.texts['config/text_summary']!)).toMatchObject({ name: 'run' });
    expect(read.plugins['text']).toEqual(['config/text_summary', 'sizes/text_summary']);
    expect(read.plugins['scalars']).toContain('train/mfu');
  });
  it.skipIf(!hasTensorBoard)(
    `drops what a killed session wrote behind its checkpoint, torn record and all${note}`,
    async () => {
      const folder = join(place.folder, 'killed');
      const wallTimeMs = (): number => 1_700_000_000_000;
      const board = (): ReturnType<typeof createTensorBoardCallback> =>
        createTensorBoardCallback({ folder, wallTimeMs, histogramEverySteps: 1 });
      const { output } = await run(
        { duration: { steps: 4 }, checkpoint: { everySteps: 2 } },
        { clock: tickingClock(), callbacks: [board()] },
      );
      // As if it had been killed while it wrote its last record, after step 4, with a checkpoint at step 2.
      const [name = ''] = readdirSync(folder);
      const file = readFileSync(join(folder, name));
      writeFileSync(join(folder, name), file.subarray(0, -5));
      const context = { config: {} } as Parameters<NonNullable<ReturnType<typeof board>['onStart']>>[1];
      const again = board();
      await again.onStart!({ kind: 'start', step: 2 } as never, context);
      const read = readBoard(folder);
      expect(read.scalars['train/loss']!.map(([step]) => step)).toEqual([1, 2]);
      expect(read.histograms['routing/layer_0/load']!.map(([step, pairs]) => [step, pairs])).toEqual([
        [1, 256],
        [2, 256],
      ]);
      expect(readdirSync(output)).toContain('model');
    },
  );
});

interface Board {
  readonly scalars: { readonly [tag: string]: number[][] };
  readonly histograms: { readonly [tag: string]: [number, number, number[]][] };
  readonly texts: { readonly [tag: string]: string };
  readonly plugins: { readonly [name: string]: string[] };
}

function readBoard(folder: string): Board {
  const { status, stdout, stderr } = spawnSync(python, ['-c', readWithPython, folder], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Board;
}
