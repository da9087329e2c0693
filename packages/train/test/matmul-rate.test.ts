import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { createManualClock } from '@moebius/core';
import type { Clock } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import type { Engine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { findMatmulRate } from '../src/index.ts';
import { runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();
let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});

/** A clock that moves so many milliseconds at every look: products seem to take as long. */
function looks(ms: number): Clock {
  let now = 0;
  return { nowMs: () => (now += ms) };
}

const rateAt = (ms: number): number => (2 * 1024 ** 3) / (ms / 1000);

describe('the matmul rate of a machine', () => {
  const at = (folder: string, clock: Clock, more: object = {}): Promise<number | undefined> =>
    findMatmulRate({ engine, cacheFolder: join(place.folder, folder), clock, ...more });
  const fileIn = (folder: string): string => {
    const rates = join(place.folder, folder, 'matmul-rates');
    return join(rates, readdirSync(rates)[0] ?? '');
  };

  it('is measured once, then known', async () => {
    expect(await at('once', looks(10))).toBe(rateAt(10));
    expect(await at('once', createManualClock())).toBe(rateAt(10));
    expect(JSON.parse(readFileSync(fileIn('once'), 'utf8'))).toMatchObject({
      engine: engine.name,
      threads: engine.threads,
      flopsPerSecond: rateAt(10),
    });
  });
  it('measured anew only rises: a lower one was taken on a busy machine', async () => {
    expect(await at('anew', looks(10))).toBe(rateAt(10));
    expect(await at('anew', looks(15), { anew: true })).toBe(rateAt(10));
    expect(await at('anew', looks(5), { anew: true })).toBe(rateAt(5));
    expect(await at('anew', createManualClock())).toBe(rateAt(5));
  });
  it('is another for other threads', async () => {
    expect(await at('threads', looks(10))).toBe(rateAt(10));
    expect(await at('threads', createManualClock(), { engine: { ...engine, threads: 77 } })).toBeUndefined();
  });
  it.each(['', '{"flopsPerSecond":', '{"flopsPerSecond":-1}', '{"flopsPerSecond":"fast"}', 'null'])(
    'is measured again when what is kept is %j',
    async (text) => {
      await at('broken', looks(10));
      writeFileSync(fileIn('broken'), text);
      expect(await at('broken', looks(5))).toBe(rateAt(5));
    },
  );
  it('is measured where nothing can be kept', async () => {
    writeFileSync(join(place.folder, 'file'), '');
    expect(await at('file', looks(10))).toBe(rateAt(10));
  });
});

describe('a step', () => {
  it('tells its operations per second, and their share of the matmul rate when that is known', async () => {
    const options = smallOptions(place, { clock: looks(2), matmulFlopsPerSecond: 4e12 });
    const events = await runToEnd(smallConfig(place, { duration: { steps: 2 } }), options);
    const start = events.find((event) => event.kind === 'start');
    expect(start?.matmulFlopsPerSecond).toBe(4e12);
    for (const { stepMs, flopsPerSecond, mfu } of stepsOf(events)) {
      expect(stepMs).toBeGreaterThan(0);
      expect(flopsPerSecond).toBeCloseTo((start?.flopsPerStep ?? 0) / (stepMs / 1000), 3);
      expect(mfu).toBe(flopsPerSecond / 4e12);
    }
    const [unknown] = stepsOf(
      await runToEnd(
        smallConfig(place, { duration: { steps: 1 } }),
        smallOptions(place, { clock: looks(2) }),
      ),
    );
    expect(unknown).not.toHaveProperty('mfu');
  });
});
