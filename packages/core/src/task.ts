/**
 * @file Tasks: code that may have to wait, written once for every executor.
 *
 * A task is a generator that yields *what it waits for*. Local experts never wait; an expert on disk or tokens on
 * another rank do. The same model code runs under a driver that blocks, one that awaits, and one that
 * interleaves virtual ranks. Nothing tensor-scoped may stay open across a yield.
 *
 * A wait that fails is thrown into the task at its `yield`: the task may catch it and go on, and its `finally`
 * blocks run when it does not.
 */
import { MoebiusError } from './errors.ts';

/** Something a task waits for. */
export interface Wait {
  /** What is waited for, for progress and error messages. */
  readonly reason: string;
  /** Whether the task can go on now. Throws when it never will. */
  ready(): boolean;
  /** Resolves when `ready()` may have become true; rejects when it never will. An early wake-up is allowed. */
  promise(): Promise<void>;
  /** Blocks until ready may have become true, where the source can block (file reads); absent when it cannot. */
  block?(): void;
}

/** Work that yields what it waits for and returns a `T`. */
export type Task<T> = Generator<Wait, T, void>;

/**
 * Runs a task to its end on this thread. A wait is polled, then blocked on until it is ready.
 *
 * @param task - started or fresh; consumed
 * @returns what the task returns
 * @throws `internal` when the task waits for something that cannot be blocked on (it is thrown into the task first).
 */
export function runSync<T>(task: Task<T>): T {
  let step = task.next();
  while (step.done !== true) {
    const failure = blockUntilReady(step.value);
    step = failure === undefined ? task.next() : task.throw(failure.error);
  }
  return step.value;
}

/**
 * Runs a task to its end, awaiting each wait.
 *
 * @param task - started or fresh; consumed
 * @returns what the task returns
 */
export async function runAsync<T>(task: Task<T>): Promise<T> {
  let step = task.next();
  while (step.done !== true) {
    const failure = await awaitUntilReady(step.value);
    step = failure === undefined ? task.next() : task.throw(failure.error);
  }
  return step.value;
}

/**
 * Runs one task per virtual rank, round-robin, in one process. A rank that waits is passed over; when every
 * unfinished rank waits and none is ready, the ranks are deadlocked. When one rank fails, `aborted` is thrown into
 * the others, so that their `finally` blocks run, and the failure is rethrown.
 *
 * @param tasks - one per rank; consumed
 * @returns one result per rank
 * @throws `collective` on a deadlock, naming what each rank waits for.
 */
export function runRanks<T>(tasks: readonly Task<T>[]): T[] {
  const results = new Map<number, T>();
  const open = new Map(
    [...tasks.entries()].map(([rank, task]): [number, Rank<T>] => [rank, { task, wait: undefined }]),
  );
  try {
    while (open.size > 0) {
      if (!advanceRanks(open, results)) throw deadlock(open);
    }
  } catch (error) {
    for (const rank of open.values()) abandon(rank.task, error);
    throw error;
  }
  return [...tasks.keys()].map((rank) => results.get(rank) as T);
}

/** One virtual rank: its task, and what it waits for. */
interface Rank<T> {
  readonly task: Task<T>;
  wait: Wait | undefined;
}

/** A caught error in a box: any value may be thrown, `undefined` too. */
interface Failure {
  readonly error: unknown;
}

/** One round over the open ranks; returns whether any of them moved. */
function advanceRanks<T>(open: Map<number, Rank<T>>, results: Map<number, T>): boolean {
  let progressed = false;
  for (const [index, rank] of open) {
    const state = poll(rank.wait);
    if (state === 'waiting') continue;
    progressed = true;
    const step = state === 'ready' ? rank.task.next() : rank.task.throw(state.error);
    if (step.done === true) {
      results.set(index, step.value);
      open.delete(index);
    } else rank.wait = step.value;
  }
  return progressed;
}

function poll(wait: Wait | undefined): 'ready' | 'waiting' | Failure {
  try {
    return wait === undefined || wait.ready() ? 'ready' : 'waiting';
  } catch (error) {
    return { error };
  }
}

function blockUntilReady(wait: Wait): Failure | undefined {
  try {
    while (!wait.ready()) {
      if (wait.block === undefined) throw unblockable(wait.reason);
      wait.block();
    }
    return undefined;
  } catch (error) {
    return { error };
  }
}

async function awaitUntilReady(wait: Wait): Promise<Failure | undefined> {
  try {
    while (!wait.ready()) await wait.promise();
    return undefined;
  } catch (error) {
    return { error };
  }
}

function unblockable(reason: string): MoebiusError {
  return new MoebiusError({
    code: 'internal',
    message: `runSync: every wait must be able to block, got "${reason}" (use runAsync)`,
    details: { reason },
  });
}

function deadlock(open: ReadonlyMap<number, Rank<unknown>>): MoebiusError {
  const lines = [...open].map(([rank, { wait }]) => `rank ${rank} waits for ${wait?.reason ?? 'nothing'}`);
  return new MoebiusError({
    code: 'collective',
    message: `runRanks: at least one rank must be able to go on, got a deadlock: ${lines.join('; ')}`,
    details: { ranks: [...open.keys()], reasons: lines },
  });
}

/** Lets the task run its `finally` blocks; what they throw is secondary to `cause`. */
function abandon(task: Task<unknown>, cause: unknown): void {
  try {
    task.throw(
      new MoebiusError({
        code: 'aborted',
        message: 'runRanks: every rank must finish, got a failed peer',
        cause,
      }),
    );
  } catch {
    return;
  }
}
