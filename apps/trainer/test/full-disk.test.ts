/** A disk that is really full: a small file system in memory where one may be mounted, and a limit on the size of files. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { buildCli, cli, makeProject, moebius, parseEvents } from './built-cli.ts';

let folder = '';
let disk = '';
const canMount = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;

beforeAll(() => {
  buildCli();
  folder = makeProject();
  const tiny = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as object;
  const saving = {
    ...tiny,
    duration: { steps: 6 },
    evaluation: { everySteps: null },
    checkpoint: { everySteps: 2 },
  };
  writeFileSync(join(folder, 'saving.json'), JSON.stringify(saving));
  disk = join(folder, 'disk');
  mkdirSync(disk);
  if (canMount) spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', disk]);
}, 400_000);
afterAll(() => {
  if (canMount) spawnSync('umount', [disk]);
});

/** Takes all but so many bytes of the small disk. */
function leaveFree(bytes: number): void {
  rmSync(join(disk, 'ballast'), { force: true });
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - bytes), 1));
}

describe.runIf(canMount)('a full disk', () => {
  it('does not end a run; the end waits for room, and nothing is missing then', async () => {
    const parameters = ['train', '--config', 'saving.json', '--out', 'disk/run', '--json', '--no-sample'];
    const child = spawn(process.execPath, [cli, ...parameters], {
      cwd: folder,
      env: { ...process.env, MOEBIUS_DISK_PATIENCE: '60' },
    });
    const failures: { what: string; message: string; retry: string }[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; what: string; message: string; retry: string };
      if (event.event === 'start') leaveFree(40_000);
      if (event.event !== 'save-failed') return;
      failures.push(event);
      if (event.retry === 'soon') rmSync(join(disk, 'ballast'));
    });
    let error = '';
    child.stderr.on('data', (chunk: Buffer) => (error += chunk.toString()));
    const status = await new Promise((resolve) => child.on('close', resolve));
    expect(failures.map(({ retry }) => retry)).toEqual([
      'with the next checkpoint',
      'with the next checkpoint',
      'soon',
    ]);
    expect(failures[0]?.message).toMatch(
      /^checkpoint: must be saved in .*disk\/run\/checkpoint, got ENOSPC: [\d.]+ KB needed, [\d.]+ (KB|bytes) free \(free some space; no checkpoint was saved before\)$/,
    );
    expect(error).toContain('; trying again soon');
    expect(status).toBe(0);
    const run = join(disk, 'run');
    expect(readdirSync(join(run, 'checkpoint'))).toEqual(['state.safetensors']);
    expect(existsSync(join(run, 'model', 'model.safetensors'))).toBe(true);
    const steps = readFileSync(join(run, 'metrics.jsonl'), 'utf8').match(/"train\/loss"/g);
    expect(steps).toHaveLength(6);
  });

  it('without patience ends the run with status 3, and the last checkpoint stands and goes on', () => {
    const run = join(disk, 'run');
    const state = join(run, 'checkpoint', 'state.safetensors');
    const before = readFileSync(state);
    leaveFree(20_000);
    const full = moebius(['train', '--resume', run, '--no-sample'], {
      cwd: folder,
      env: { MOEBIUS_DISK_PATIENCE: '0' },
    });
    expect(full.status).toBe(3);
    expect(full.error).toMatch(
      /^error: checkpoint: must be saved in .*, got ENOSPC: .* needed, .* free \(free some space; the last checkpoint stands\)$/m,
    );
    expect(readFileSync(state).equals(before)).toBe(true);
    rmSync(join(disk, 'ballast'));
    expect(moebius(['train', '--resume', run, '--no-sample'], { cwd: folder }).status).toBe(0);
    expect(readdirSync(run).toSorted()).toEqual(['checkpoint', 'metrics.jsonl', 'model', 'run.json']);
  });
});

describe.runIf(process.platform !== 'win32')('a limit on the size of files', () => {
  it('is told with its remedy; the run ends with status 3', () => {
    const script = `ulimit -f 100; exec "$0" "$@"`; // blocks of 512 or 1024 bytes
    const parameters = [cli, 'train', '--config', 'saving.json', '--out', 'limited', '--json', '--no-sample'];
    // The text is prepared before, so that only the run's own files are too large.
    expect(
      moebius(['train', '--config', 'saving.json', '--steps', '1', '--no-sample'], { cwd: folder }).status,
    ).toBe(0);
    const { status, stdout } = spawnSync('sh', ['-c', script, process.execPath, ...parameters], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, MOEBIUS_DISK_PATIENCE: '0' },
    });
    const events = parseEvents(stdout);
    expect(status).toBe(3);
    expect(events.filter(({ event }) => event === 'step')).toHaveLength(6);
    expect(events.at(-1)).toMatchObject({
      event: 'error',
      code: 'io',
      message: expect.stringMatching(
        /got EFBIG: .* \(raise the limit on the size of a file, see ulimit -f; no checkpoint was saved before\)$/,
      ),
    });
    expect(existsSync(join(folder, 'limited', 'lock'))).toBe(false);
  });
});
