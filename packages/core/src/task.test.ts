import { describe, expect, it } from 'vitest';

import { isMoebiusError, type MoebiusError } from './errors.ts';
import { runAsync, runRanks, runSync, type Task, type Wait } from './task.ts';

/** A wait that becomes ready after `wakeUps` blocks or promises; earlier wake-ups are early ones. */
function countdown(wakeUps: number, log: string[] = []): Wait {
  let left = wakeUps;
  return {
    reason: `countdown from ${wakeUps}`,
    ready: () => left <= 0,
    async promise(): Promise<void> {
      log.push('await');
      left -= 1;
    },
    block(): void {
      log.push('block');
      left -= 1;
    },
  };
}

function failing(error: unknown): Wait {
  const fail = (): never => {
    throw error;
  };
  return { reason: 'broken disk', ready: () => false, promise: async () => fail(), block: fail };
}

const never: Wait = { reason: 'a message', ready: () => false, promise: () => new Promise(() => {}) };

function* waitFor(...waits: readonly Wait[]): Task<number> {
  for (const wait of waits) yield wait;
  return waits.length;
}

function* guarded(wait: Wait, log: string[]): Task<string> {
  try {
    yield wait;
    return 'done';
  } finally {
    log.push('released');
  }
}

function* recovering(wait: Wait): Task<string> {
  try {
    yield wait;
    return 'waited';
  } catch (error) {
    return `recovered from ${String(error)}`;
  }
}

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('runSync', () => {
  it('returns what a task without waits returns', () => {
    expect(runSync(waitFor())).toBe(0);
  });

  it('blocks again while an early wake-up leaves the wait unready', () => {
    const log: string[] = [];
    expect(runSync(waitFor(countdown(3, log), countdown(0, log)))).toBe(2);
    expect(log).toEqual(['block', 'block', 'block']);
  });

  it('refuses a wait that cannot block, after the task has released what it holds', () => {
    const log: string[] = [];
    const error = thrownBy(() => runSync(guarded(never, log)));
    expect(isMoebiusError(error, 'internal')).toBe(true);
    expect(String(error)).toContain('"a message" (use runAsync)');
    expect(log).toEqual(['released']);
  });

  it('throws the failure of a wait into the task, which may recover', () => {
    const log: string[] = [];
    expect(thrownBy(() => runSync(guarded(failing('EIO'), log)))).toBe('EIO');
    expect(log).toEqual(['released']);
    expect(runSync(recovering(failing('EIO')))).toBe('recovered from EIO');
    expect(runSync(recovering(failing(undefined)))).toBe('recovered from undefined');
  });

  it('lets the error of the task itself pass', () => {
    function* broken(): Task<void> {
      yield countdown(1);
      throw new Error('mine');
    }
    expect(() => runSync(broken())).toThrow('mine');
  });
});

describe('runAsync', () => {
  it('awaits each wait, again after an early wake-up, and skips ready ones', async () => {
    const log: string[] = [];
    expect(await runAsync(waitFor(countdown(2, log), countdown(0, log)))).toBe(2);
    expect(log).toEqual(['await', 'await']);
  });

  it('throws a rejection into the task, which may recover', async () => {
    const log: string[] = [];
    await expect(runAsync(guarded(failing(new Error('EIO')), log))).rejects.toThrow('EIO');
    expect(log).toEqual(['released']);
    expect(await runAsync(recovering(failing('EIO')))).toBe('recovered from EIO');
  });
});

describe('runRanks', () => {
  /** One mailbox per rank: `receive` waits until a peer has sent. */
  function mailboxes(ranks: number): {
    send(to: number, value: number): void;
    receive(rank: number): Task<number>;
  } {
    const boxes = Array.from({ length: ranks }, (): number[] => []);
    return {
      send: (to, value) => boxes[to]?.push(value),
      *receive(rank): Task<number> {
        yield {
          reason: `mail for rank ${rank}`,
          ready: () => (boxes[rank]?.length ?? 0) > 0,
          promise: () => Promise.reject(new Error('not used')),
        };
        return boxes[rank]?.shift() ?? NaN;
      },
    };
  }

  it('passes values around a ring, results in rank order', () => {
    const ranks = 4;
    const mail = mailboxes(ranks);
    function* rank(index: number): Task<number> {
      mail.send((index + 1) % ranks, index * 10);
      const received = yield* mail.receive(index);
      return received + index;
    }
    expect(runRanks([0, 1, 2, 3].map(rank))).toEqual([30, 1, 12, 23]);
  });

  it('returns undefined results of ranks that return nothing', () => {
    function* nothing(): Task<undefined> {
      yield countdown(0);
      return undefined;
    }
    expect(runRanks([nothing(), nothing()])).toEqual([undefined, undefined]);
    expect(runRanks([])).toEqual([]);
  });

  it('names what every rank waits for on a deadlock, after all have released what they hold', () => {
    const log: string[] = [];
    const error = thrownBy(() =>
      runRanks([guarded(never, log), waitFor() as unknown as Task<string>, guarded(never, log)]),
    );
    expect(isMoebiusError(error, 'collective')).toBe(true);
    expect((error as MoebiusError).details).toEqual({
      ranks: [0, 2],
      reasons: ['rank 0 waits for a message', 'rank 2 waits for a message'],
    });
    expect(log).toEqual(['released', 'released']);
  });

  it('aborts the other ranks when one fails and rethrows its error', () => {
    const log: string[] = [];
    let seen: unknown;
    function* watching(): Task<string> {
      try {
        return yield* guarded(never, log);
      } catch (error) {
        seen = error;
        throw error;
      }
    }
    function* broken(): Task<string> {
      yield countdown(0);
      throw new Error('rank 1 broke');
    }
    expect(() => runRanks([watching(), broken()])).toThrow('rank 1 broke');
    expect(isMoebiusError(seen, 'aborted')).toBe(true);
    expect(log).toEqual(['released']);
  });

  it('throws a failed poll into its own rank only', () => {
    const poisoned: Wait = {
      ...never,
      ready: () => {
        throw new Error('peer left');
      },
    };
    expect(runRanks([recovering(poisoned), recovering(countdown(0))])).toEqual([
      'recovered from Error: peer left',
      'waited',
    ]);
  });
});
