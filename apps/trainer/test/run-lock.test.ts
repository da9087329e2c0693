/** One run at a time in a folder, with real processes: held while it lives, taken over when it was killed, by one. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius, startMoebius } from './built-cli.ts';

let folder = '';
beforeAll(() => {
  buildCli();
  folder = makeProject();
  const tiny = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'long.json'), JSON.stringify({ ...tiny, duration: { steps: 100_000 } }));
}, 400_000);

/** Starts a run and waits until it trains. */
async function startRun(out: string): Promise<{ readonly pid: number; kill(): Promise<void> }> {
  const child = startMoebius(['train', '--config', 'long.json', '--out', out, '--json'], { cwd: folder });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  await new Promise<void>((resolve) => {
    createInterface({ input: child.stdout! }).on(
      'line',
      (line) => line.includes('"event":"step"') && resolve(),
    );
  });
  return {
    pid: child.pid ?? 0,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

describe('a folder in which a run is going on', () => {
  it('is refused with owner, age and what to do; after kill -9 it is taken over with a word about it', async () => {
    const run = await startRun('runs/one');
    const again = moebius(['train', '--config', 'run.json', '--out', 'runs/one', '--overwrite'], {
      cwd: folder,
    });
    const resumed = moebius(['train', '--resume', 'runs/one'], { cwd: folder });
    await run.kill();
    for (const { status, error } of [again, resumed]) {
      expect(status).toBe(3);
      expect(error).toMatch(
        new RegExp(
          `output: must be used by one run at a time, got .*runs/one, which process ${run.pid} \\("moebius train --config long\\.json --out runs/one --json"\\) has had for \\d+ (s|min) \\(wait for it, stop it with kill ${run.pid}, or name another folder\\)`,
        ),
      );
    }
    expect(existsSync(join(folder, 'runs/one/lock'))).toBe(true);
    const next = moebius(
      ['train', '--config', 'run.json', '--out', 'runs/one', '--overwrite', '--steps', '2'],
      {
        cwd: folder,
      },
    );
    expect(next.status).toBe(0);
    expect(next.error).toMatch(
      /runs\/one: its last run \(process \d+, "moebius train .*", begun \d+ (s|min) ago\) ended without giving it back; taken over/,
    );
    expect(existsSync(join(folder, 'runs/one/lock'))).toBe(false);
  });
});

describe('the lock of a run that was killed', () => {
  it('goes to one of many who want it at the same moment', async () => {
    const rounds = 5;
    const takers = 6;
    const place = join(folder, 'race');
    const script = join(import.meta.dirname, 'lock-taker.mjs');
    const start = (order: object): { readonly out: Promise<string>; readonly kill: () => void } => {
      const child = spawn(process.execPath, [script, JSON.stringify(order)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      return {
        out: new Promise((resolve) => child.on('close', () => resolve(text))),
        kill: () => child.kill('SIGKILL'),
      };
    };
    const runs = Array.from({ length: takers }, (_, index) => start({ place, rounds, takers, index }));
    const outs = await Promise.all(runs.map(({ out }) => out));
    for (let round = 0; round < rounds; round += 1) {
      const won = outs.filter((out) => out.includes(`round ${round} won`));
      const lost = outs.filter((out) => out.includes(`round ${round} lost`));
      expect([round, won.length, lost.length]).toEqual([round, 1, takers - 1]);
    }
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place);
  });
});
