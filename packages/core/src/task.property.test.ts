import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { runAsync, runRanks, runSync, type Task, type Wait } from './task.ts';

/** A program: waits of so many wake-ups, some of which fail, in a loop that sums what it got. */
type Program = readonly { readonly wakeUps: number; readonly fails: boolean; readonly nested: boolean }[];

function wait(wakeUps: number, fails: boolean): Wait {
  let left = wakeUps;
  const wake = (): void => {
    left -= 1;
    if (fails) throw new Error('failed');
  };
  const ready = (): boolean => {
    // Ranks poll only: each poll brings the wait nearer.
    if (left > 0 && fails) throw new Error('failed');
    return left <= 0;
  };
  return { reason: 'a count', ready, block: wake, promise: async () => wake() };
}

function* perform(program: Program): Task<string> {
  const log: string[] = [];
  for (const step of program) {
    try {
      if (step.nested) log.push(yield* perform([{ ...step, nested: false }]));
      else yield wait(step.wakeUps, step.fails);
      log.push('ok');
    } catch (error) {
      log.push(String(error));
    } finally {
      log.push('end');
    }
  }
  return log.join();
}

const anyProgram: fc.Arbitrary<Program> = fc.array(
  fc.record({ wakeUps: fc.nat({ max: 3 }), fails: fc.boolean(), nested: fc.boolean() }),
  { maxLength: 6 },
);

describe('the drivers', () => {
  it('give one result, blocking or awaiting', async () => {
    await fc.assert(
      fc.asyncProperty(anyProgram, async (program) => {
        expect(await runAsync(perform(program))).toBe(runSync(perform(program)));
      }),
    );
  });

  it('give one result alone or interleaved with others, when nothing has to wait', () => {
    fc.assert(
      fc.property(fc.array(anyProgram, { maxLength: 5 }), (programs) => {
        const immediate = programs.map((program) =>
          program.map((step) => (step.fails ? step : { ...step, wakeUps: 0 })),
        );
        expect(runRanks(immediate.map(perform))).toEqual(
          immediate.map((program) => runSync(perform(program))),
        );
      }),
    );
  });
});
