/**
 * A run that is killed with SIGKILL again and again at random moments, and resumed each time, ends with the bytes of a
 * run that nobody touched. MOEBIUS_KILL_SEED gives other moments.
 */
import { join } from 'node:path';

import { createRng } from '@moebius/core';
import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject } from './built-cli.ts';
import { expectWhole, live, writeConfig } from './life.ts';
import { resultsOf } from './run-results.ts';

const seed = Number(process.env['MOEBIUS_KILL_SEED'] ?? 1);
const limitMs = 600_000;

let folder = '';
beforeAll(() => {
  buildCli();
  folder = makeProject();
}, 400_000);

describe('a run that is killed at random moments', () => {
  const kills = 30;
  it(
    `${kills} times ends like one that was not`,
    async () => {
      const config = writeConfig(folder, 'random', 150);
      const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
      expectWhole(await live(whole, config, { engine: 'native' }));
      const rng = createRng([seed]).fork('kills');
      const last = new Map<string, number>();
      let count = 0;
      for (let attempt = 0; count < kills; attempt += 1) {
        expect(attempt).toBeLessThan(3 * kills);
        // Some die while they prepare; the others some events after training began, and a moment later.
        const isEarly = rng.integer(8) === 0;
        const [events, wait] = [1 + rng.integer(12), rng.integer(12)];
        let since = 0;
        const life = await live(killed, config, {
          engine: 'native',
          ...(isEarly
            ? { afterMs: 100 + rng.integer(1200) }
            : {
                isTime: (event) => {
                  if (event === 'start' || since > 0) since += 1;
                  return since === events ? wait : undefined;
                },
              }),
        });
        if (life.signal === 'SIGKILL') count += 1;
        else expectWhole(life);
        const at = life.events.at(-1) ?? 'nothing';
        last.set(at, (last.get(at) ?? 0) + 1);
      }
      expectWhole(await live(killed, config, { engine: 'native' }));
      // Moments of more than one kind were hit: without that the test shows little.
      expect(last.size).toBeGreaterThan(2);
      expect(resultsOf(killed)).toEqual(resultsOf(whole));
    },
    limitMs,
  );
});
