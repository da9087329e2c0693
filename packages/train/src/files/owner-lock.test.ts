import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { tryLock } from './owner-lock.ts';
import type { HeldLock } from './owner-lock.ts';
import { ownIdentity, stateOf } from './process-identity.ts';

let folder = '';
let lock = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'moebius-lock-'));
  lock = join(folder, 'lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ids = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'];

/** A lock file as a process that is gone left it. */
function leave(file: string, parts: object = {}, id: string = ids[0] ?? ''): void {
  const gone = { ...ownIdentity(), pid: 2 ** 22 + 7, started: 'long ago' }; // above the most a Linux process can have
  writeFileSync(file, JSON.stringify({ id, ...gone, command: 'a run', ...parts }));
}

function take(command: string = 'test'): HeldLock {
  const { held } = tryLock(lock, command);
  if (held === undefined) throw new Error('expected the lock');
  return held;
}

describe('tryLock', () => {
  it('gives a lock to one, who is named to the next, and again after it is released', () => {
    const first = take('the first');
    expect(first.former).toEqual([]);
    expect(tryLock(lock, 'the second')).toEqual({
      held: undefined,
      owner: {
        pid: process.pid,
        host: ownIdentity().host,
        command: 'the first',
        state: 'alive',
        ageMs: expect.any(Number),
      },
    });
    first.release();
    first.release();
    expect(readdirSync(folder)).toEqual([]);
    take().release();
  });

  it('takes the place of an owner that is gone, and of one whose number another process has now', () => {
    leave(lock);
    const held = take();
    expect(held.former).toMatchObject([{ pid: 2 ** 22 + 7, state: 'gone' }]);
    expect(readdirSync(folder)).toEqual(['lock']);
    held.release();
    leave(lock, { pid: process.pid });
    expect(take().former).toMatchObject([{ pid: process.pid, state: 'gone' }]);
  });

  it('lines up behind claimers that died too', () => {
    leave(lock);
    leave(`${lock}.after-${ids[0]}`, { pid: 2 ** 22 + 8 }, ids[1]);
    writeFileSync(join(folder, 'lock.txt'), "a person's");
    expect(take().former.map(({ pid }) => pid)).toEqual([2 ** 22 + 7, 2 ** 22 + 8]);
    expect(readdirSync(folder).toSorted()).toEqual(['lock', 'lock.txt']);
  });

  it('waits for a claimer that lives', () => {
    leave(lock);
    leave(`${lock}.after-${ids[0]}`, { ...ownIdentity(), command: 'quicker' }, ids[1]);
    expect(tryLock(lock, 'slower')).toMatchObject({ held: undefined, owner: { command: 'quicker' } });
    expect(JSON.parse(readFileSync(lock, 'utf8'))).toMatchObject({ id: ids[0] });
  });

  it.each([
    ['another machine', { host: 'elsewhere' }],
    ['another container', { numbering: 'pid:[1]' }],
  ])('respects an owner of %s, however old', (_, parts) => {
    leave(lock, parts);
    utimesSync(lock, 0, 0);
    const { held, owner } = tryLock(lock, 'test') as { held: undefined; owner: { ageMs: number } };
    expect([held, owner]).toMatchObject([undefined, { state: 'unknown' }]);
    expect(owner.ageMs).toBeGreaterThan(50 * 365 * 86_400_000);
  });

  it('tells no negative age when the clock was set back', () => {
    leave(lock, { host: 'elsewhere' });
    utimesSync(lock, 2 ** 32, 2 ** 32);
    expect(tryLock(lock, 'test')).toMatchObject({ owner: { ageMs: 0 } });
  });

  it.each(['', '{"pid": 3', '{"id": "../../x"}'])('leaves alone what it cannot read: %j', (text) => {
    writeFileSync(lock, text);
    expect(tryLock(lock, 'test')).toEqual({ held: undefined, owner: undefined });
    expect(readFileSync(lock, 'utf8')).toBe(text);
  });

  it('does not release what is not its own any more', () => {
    const held = take();
    rmSync(lock);
    const other = take('other');
    held.release();
    expect(readFileSync(lock, 'utf8')).toContain('"other"');
    other.release();
  });
});

describe('stateOf', () => {
  it('knows a process that lives, one that was killed, and itself', async () => {
    expect(stateOf(ownIdentity())).toBe('alive');
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    const pid = child.pid ?? 0;
    const identity = { ...ownIdentity(), pid, started: '' };
    expect(stateOf(identity)).toBe('alive');
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    expect(stateOf(identity)).toBe('gone');
  });

  it.runIf(process.platform === 'linux')(
    'counts one that ended and whose parent does not care as gone',
    async () => {
      const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 5'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const pid = await new Promise<number>((resolve) => {
        parent.stdout.on('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
      });
      await expect.poll(() => readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(') Z ');
      expect(stateOf({ ...ownIdentity(), pid, started: '' })).toBe('gone');
      parent.kill();
    },
  );

  it('never calls a number that is no process alive', () => {
    fc.assert(
      fc.property(fc.oneof(fc.integer({ max: 0 }), fc.double(), fc.integer({ min: 2 ** 22 + 1 })), (pid) => {
        expect(stateOf({ ...ownIdentity(), pid })).toBe('gone');
      }),
    );
  });
});
