/** What a run survives: another run, a full disk, a clock that leaps. */
import { existsSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { createManualClock } from '@moebius/core';
import { afterEach, describe, expect, it } from 'vitest';

import { createTrainer, defineCallback, lockRun } from '../src/index.ts';
import type { TrainEvent } from '../src/index.ts';
import { ownIdentity } from '../src/files/process-identity.ts';
import { createLineWriter } from '../src/trainer/metrics-writer.ts';
import { canLimitFiles, limitFiles } from './file-size-limit.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

describe('an output folder', () => {
  it('belongs to one run while it lasts: who comes second is told who has it, and what to do', async () => {
    const output = place.freshOutput();
    const config = smallConfig(place, { output, duration: { steps: 2 } });
    const refusals: string[] = [];
    const intrude = defineCallback({
      name: 'intrude',
      onStep: async () => {
        for (const existing of ['refuse', 'resume', 'overwrite'] as const) {
          const second = createTrainer(config, smallOptions(place, { existing }));
          await collect(second).catch((error: Error) => refusals.push(error.message));
        }
      },
    });
    const options = smallOptions(place, { callbacks: [intrude], command: 'moebius train --out here' });
    const events = await runToEnd(config, options);
    expect(events.at(-1)).toMatchObject({ kind: 'end', reason: 'finished' });
    expect(refusals).toHaveLength(6);
    for (const message of refusals) {
      expect(message.replace(output, 'OUT').replaceAll(String(process.pid), 'PID')).toMatch(
        /^output: must be used by one run at a time, got OUT, which process PID \("moebius train --out here"\) has had for \d+ s \(wait for it, stop it with kill PID, or name another folder\)$/,
      );
    }
    expect(readdirSync(output).toSorted()).toEqual(['metrics.jsonl', 'model']);
  });

  it('is free again after a run that failed, and gone when that run had only made it', async () => {
    const output = place.freshOutput();
    const config = smallConfig(place, {
      output,
      duration: { steps: 1 },
      batch: { sequences: 300, length: 32 },
    });
    await expect(runToEnd(config, smallOptions(place))).rejects.toThrow('training text');
    expect(existsSync(output)).toBe(false);
  });

  it('of a run that died is taken over, with a word about it', async () => {
    const output = place.freshOutput();
    await mkdir(output);
    const owner = { ...ownIdentity(), pid: 2 ** 22 + 5, command: 'moebius train', started: 'long ago' };
    const id = '00000000-0000-4000-8000-000000000000';
    writeFileSync(join(output, 'lock'), JSON.stringify({ id, ...owner }));
    const minutesAgo = Date.now() / 1000 - 600;
    utimesSync(join(output, 'lock'), minutesAgo, minutesAgo);
    const told: string[] = [];
    const options = smallOptions(place, { onMessage: (line) => told.push(line) });
    await runToEnd(smallConfig(place, { output, duration: { steps: 1 } }), options);
    expect(told.filter((line) => line.startsWith(output))).toEqual([
      `${output}: its last run (process ${2 ** 22 + 5}, "moebius train", begun 10 min ago) ended without giving it back; taken over`,
    ]);
  });

  it('of another machine is left to it, with its age and what to delete', async () => {
    const output = place.freshOutput();
    await mkdir(output);
    const lock = join(output, 'lock');
    const id = '00000000-0000-4000-8000-000000000000';
    writeFileSync(
      lock,
      JSON.stringify({ id, ...ownIdentity(), pid: 7, host: 'node-b', command: 'moebius train' }),
    );
    const hoursAgo = Date.now() / 1000 - 3 * 3600;
    utimesSync(lock, hoursAgo, hoursAgo);
    await expect(runToEnd(smallConfig(place, { output }), smallOptions(place))).rejects.toThrow(
      `output: must be used by one run at a time, got ${output}, which process 7 on node-b, which cannot be asked from here ("moebius train") has had for 3 h (if that run is over, delete ${lock}; or name another folder)`,
    );
    writeFileSync(lock, 'torn');
    expect(() => lockRun(output, { command: 'x' })).toThrow(
      `output: must be used by one run at a time, got ${output} with a lock that cannot be read (when no run uses it, delete ${lock})`,
    );
  });

  it('is not made by a run that was told to stop while it prepared', async () => {
    const output = place.freshOutput();
    const controller = new AbortController();
    const trainer = createTrainer(
      smallConfig(place, { output }),
      smallOptions(place, { signal: controller.signal }),
    );
    const stages: string[] = [];
    const run = async (): Promise<void> => {
      for await (const event of trainer.run()) {
        if (event.kind === 'prepare') stages.push(event.stage);
        controller.abort();
      }
    };
    await expect(run()).rejects.toThrow('preparation: must not be aborted to finish, got an abort request');
    expect([stages, existsSync(output)]).toEqual([['engine'], false]);
  });

  it('of a run that was killed before its first step may be used again', async () => {
    const output = place.freshOutput();
    await mkdir(output);
    writeFileSync(join(output, 'metrics.jsonl'), '');
    const events = await runToEnd(
      smallConfig(place, { output, duration: { steps: 1 } }),
      smallOptions(place),
    );
    expect(events.at(-1)).toMatchObject({ reason: 'finished' });
  });

  it('that cannot be written is named', () => {
    const file = join(place.folder, 'a-file');
    writeFileSync(file, '');
    expect(() => lockRun(join(file, 'run'), { command: 'x' })).toThrow(
      /^output: must be a folder that can be written, got .*a-file\/run and ENOTDIR.* \(check permissions and space, or name another folder\)$/,
    );
  });
});

describe.runIf(canLimitFiles)('a full disk', () => {
  afterEach(() => limitFiles(undefined));
  const parts = { duration: { steps: 6 }, checkpoint: { everySteps: 2 } };
  const tooSmall = 100_000;
  /** No room during these steps. */
  const fullDuring = (from: number, to: number) =>
    defineCallback({
      name: 'full',
      onStep: ({ step }) => {
        if (step === from) limitFiles(tooSmall);
        if (step === to) limitFiles(undefined);
      },
    });

  it('during a checkpoint in between is told; the run goes on and ends as if nothing had been', async () => {
    const whole = place.freshOutput();
    await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const output = place.freshOutput();
    const kept: Buffer[] = [];
    const state = join(output, 'checkpoint', 'state.safetensors');
    const look = defineCallback({
      name: 'look',
      onStep: ({ step }) => void (step > 2 && kept.push(readFileSync(state))),
    });
    const events = await runToEnd(
      smallConfig(place, { ...parts, output }),
      smallOptions(place, { callbacks: [fullDuring(4, 5), look] }),
    );
    const failed = events.filter((event) => event.kind === 'save-failed');
    expect(failed).toMatchObject([{ what: 'checkpoint', step: 4, retry: 'with the next checkpoint' }]);
    expect(failed[0]?.message.replace(output, 'OUT')).toMatch(
      /^checkpoint: must be saved in OUT\/checkpoint, got EFBIG: [\d.]+ KB needed, [\d.]+ [KMGT]B free \(raise the limit on the size of a file, see ulimit -f; the last checkpoint stands\)$/,
    );
    // Steps 3, 4 and 5 saw the checkpoint of step 2.
    expect(kept.slice(1, 3).every((bytes) => bytes.equals(kept[0]!))).toBe(true);
    expect(digests(output)).toEqual(digests(whole));
  });

  it('at the end is waited for', async () => {
    const output = place.freshOutput();
    const waits: TrainEvent[] = [];
    const options = smallOptions(place, { callbacks: [fullDuring(6, 0)], diskPatienceMs: 20_000 });
    const trainer = createTrainer(smallConfig(place, { ...parts, output }), options);
    for await (const event of trainer.run()) {
      if (event.kind !== 'save-failed') continue;
      waits.push(event);
      limitFiles(undefined);
    }
    trainer.dispose();
    expect(waits).toMatchObject([{ what: 'checkpoint', step: 6, retry: 'soon' }]);
    expect(existsSync(join(output, 'model', 'model.safetensors'))).toBe(true);
  });

  it('at the end, without patience, is an error; the numbers are there to be saved when there is room', async () => {
    const output = place.freshOutput();
    const config = smallConfig(place, { ...parts, output });
    const trainer = createTrainer(config, smallOptions(place, { callbacks: [fullDuring(5, 0)] }));
    await expect(collect(trainer)).rejects.toThrow(
      /^checkpoint: must be saved in .*, got EFBIG: .* \(raise the limit .*; the last checkpoint stands\)$/,
    );
    await expect(trainer.save()).rejects.toThrow('EFBIG');
    limitFiles(undefined);
    await trainer.save();
    trainer.dispose();
    expect(readdirSync(join(output, 'checkpoint'))).toEqual(['state.safetensors']);
    const resumed = await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    expect(stepsOf(resumed)).toEqual([]);
    expect(resumed.at(-1)).toMatchObject({ reason: 'finished', step: 6 });
  });

  it('under the model folder says what stands', async () => {
    const output = place.freshOutput();
    const onSave = (): void => limitFiles(50_000);
    const callbacks = [defineCallback({ name: 'full', onSave })];
    const config = smallConfig(place, { output, duration: { steps: 2 }, checkpoint: { everySteps: 2 } });
    await expect(runToEnd(config, smallOptions(place, { callbacks }))).rejects.toThrow(
      /^model: must be saved in .*\/model, got EFBIG: [\d.]+ KB needed, .* free \(raise .*; the last checkpoint stands: go on with it\)$/,
    );
    limitFiles(undefined);
    expect(readdirSync(output).toSorted()).toEqual(['checkpoint', 'metrics.jsonl']);
  });

  it('keeps metrics until there is room, in whole lines', async () => {
    const file = join(place.folder, 'lines');
    writeFileSync(file, 'first\n');
    const writer = await createLineWriter(file);
    limitFiles(4096);
    await writer.write('x'.repeat(3000));
    await writer.write('y'.repeat(3000));
    await writer.write('z');
    expect([writer.waiting, statSync(file).size]).toEqual([2, 3007]);
    limitFiles(undefined);
    await writer.write('last');
    expect(writer.waiting).toBe(0);
    const lines = readFileSync(file, 'utf8').split('\n');
    expect(lines.map((line) => line.slice(0, 5))).toEqual(['first', 'xxxxx', 'yyyyy', 'z', 'last', '']);
  });
});

describe('a clock', () => {
  const yearMs = 365 * 86_400_000;
  /** A clock that leaps when a step is done, and otherwise goes on by a second. */
  const leaping = async (
    leaps: { readonly [step: number]: number },
    duration: { minutes: number } | { steps: number },
  ) => {
    let now = 1e12;
    const clock = { nowMs: () => (now += 250) };
    const leap = defineCallback({ name: 'leap', onStep: ({ step }) => void (now += leaps[step] ?? 0) });
    const config = smallConfig(place, { duration });
    return stepsOf(await runToEnd(config, smallOptions(place, { clock, callbacks: [leap] })));
  };

  it('that is set back gives no step negative time, and the run ends', async () => {
    const steps = await leaping({ 2: -yearMs, 3: -5 }, { minutes: 0.2 });
    expect(steps.length).toBeGreaterThan(8);
    expect(steps.length).toBeLessThan(25);
    expect(Math.min(...steps.map(({ stepMs }) => stepMs))).toBeGreaterThan(0);
    expect(steps.map(({ fraction }) => fraction)).toEqual(
      steps.map(({ fraction }) => fraction).toSorted((a, b) => a - b),
    );
    expect(steps.at(-1)?.fraction).toBe(1);
  });

  it('that leaps ahead costs a run of limited time a quarter of it, and does not end it', async () => {
    const steady = await leaping({}, { minutes: 0.2 });
    const leapt = await leaping({ 1: yearMs }, { minutes: 0.2 });
    expect(leapt.length).toBeGreaterThanOrEqual(Math.floor(0.7 * steady.length));
    expect(leapt.length).toBeLessThan(steady.length);
  });

  it('that leaps leaves a run by steps with a time to its end that is finite and never negative', async () => {
    const steps = await leaping({ 2: yearMs, 4: -yearMs }, { steps: 6 });
    expect(steps).toHaveLength(6);
    for (const { remainingMs } of steps) {
      expect(remainingMs).toBeGreaterThanOrEqual(0);
      expect(remainingMs).toBeLessThan(6 * 3_600_000);
    }
  });

  it('that stands still, or says nonsense, is no reason to stop', async () => {
    const clock = { nowMs: () => Number.NaN };
    const options = smallOptions(place, { clock });
    expect(stepsOf(await runToEnd(smallConfig(place, { duration: { steps: 2 } }), options))).toHaveLength(2);
    expect(createManualClock().nowMs()).toBe(0);
  });
});
