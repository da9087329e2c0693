/**
 * One of several processes that want the same lock at once, for `run-lock.test.ts`. In each round a dead owner's lock
 * lies in a folder; all wait for each other, try, say `round N won` or `round N lost`, and hold on until all have tried.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { readlinkSync } from 'node:fs';

import { lockRun } from '@moebius/train';

const { place, rounds, takers, index } = JSON.parse(process.argv[2]);
const pause = new Int32Array(new SharedArrayBuffer(4));

function numbering() {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** Says that we are there and waits for the others; the last moments without sleeping. */
function meet(name) {
  const folder = join(place, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, String(index)), '');
  while (readdirSync(folder).length < takers) Atomics.wait(pause, 0, 0, 1);
}

for (let round = 0; round < rounds; round += 1) {
  const output = join(place, `run-${round}`);
  const lock = join(output, 'lock');
  mkdirSync(output, { recursive: true });
  if (index === 0) {
    const dead = {
      pid: 2 ** 22 + 9,
      host: hostname(),
      numbering: numbering(),
      started: 'long ago',
      command: 'dead',
    };
    writeFileSync(lock, JSON.stringify({ id: '00000000-0000-4000-8000-000000000000', ...dead }));
  }
  meet(`begin-${round}`);
  let held;
  try {
    held = lockRun(output, { command: `taker ${index}` });
    console.log(`round ${round} won`);
  } catch (error) {
    console.log(`round ${round} ${error.code === 'io' ? 'lost' : error.stack}`);
  }
  meet(`end-${round}`);
  if (held !== undefined && !existsSync(lock)) console.log('the lock is not there');
  held?.release();
}
