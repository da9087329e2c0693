/**
 * @file Tasks: code that may have to wait, written once for every executor.
 *
 * A task is a generator that yields *what it waits for*. Local experts never wait; an expert on disk or tokens on
 * another rank do. The same model code runs under a driver that blocks, one that awaits, and one that
 * interleaves virtual ranks. Nothing tensor-scoped may stay open across a yield.
 */
import { MoebiusError } from './errors.ts';

/** Something a task waits for. */
export interface Wait {
  /** What is waited for, for progress and error messages. */
  readonly reason: string;
  /** Whether the task can go on now. */
  ready(): boolean;
  /** Resolves when `ready()` has become true; rejects when it never will. */
  promise(): Promise<void>;
  /** Blocks until ready, where the source can block (file reads); absent when it cannot. */
  block?(): void;
}

/** Work that yields what it waits for and returns a `T`. */
export type Task<T> = Generator<Wait, T, void>;

/**
 * Runs a task to its end on this thread. A wait is polled, then blocked on.
 *
 * @throws `internal` when the task waits for something that cannot be blocked on.
 */
export function runSync<T>(task: Task<T>): T {
  for (;;) {
    const step = task.next();
    if (step.done === true) return step.value;
    const wait = step.value;
    if (wait.ready()) continue;
    if (wait.block === undefined) {
      const error = new MoebiusError({
        code: 'internal',
        message: `runSync: every wait must be able to block, got "${wait.reason}" (use runAsync)`,
        details: { reason: wait.reason },
      });
      throwInto(task, error);
      throw error;
    }
    wait.block();
  }
}

/** Runs a task to its end, awaiting each wait. */
export async function runAsync<T>(task: Task<T>): Promise<T> {
  for (;;) {
    const step = task.next();
    if (step.done === true) return step.value;
    if (step.value.ready()) continue;
    try {
      await step.value.promise();
    } catch (error) {
      throwInto(task, error);
      throw error;
    }
  }
}

/**
 * Runs one task per virtual rank, round-robin, in one process. A rank that waits is passed over; when every
 * unfinished rank waits and none is ready, the ranks are deadlocked.
 *
 * @throws `collective` on a deadlock, naming what each rank waits for.
 */
export function runRanks<T>(tasks: readonly Task<T>[]): T[] {
  const results: (T | undefined)[] = tasks.map(() => undefined);
  const waits: (Wait | undefined)[] = tasks.map(() => undefined);
  const open = new Set(tasks.keys());
  while (open.size > 0) {
    let progressed = false;
    for (const rank of open) {
      const wait = waits[rank];
      if (wait !== undefined && !wait.ready()) continue;
      const task = tasks[rank];
      if (task === undefined) continue;
      const step = task.next();
      progressed = true;
      if (step.done === true) {
        results[rank] = step.value;
        open.delete(rank);
      } else waits[rank] = step.value;
    }
    if (!progressed) throw deadlock(open, waits);
  }
  return results as T[];
}

function deadlock(open: ReadonlySet<number>, waits: readonly (Wait | undefined)[]): MoebiusError {
  const lines = [...open].map((rank) => `rank ${rank} waits for ${waits[rank]?.reason ?? 'nothing'}`);
  return new MoebiusError({
    code: 'collective',
    message: `runRanks: at least one rank must be able to go on, got a deadlock: ${lines.join('; ')}`,
    details: { ranks: [...open], reasons: lines },
  });
}

/** Lets the task run its `finally` blocks; what they throw is secondary to `error`. */
function throwInto(task: Task<unknown>, error: unknown): void {
  try {
    task.throw(error);
  } catch {
    return;
  }
}
