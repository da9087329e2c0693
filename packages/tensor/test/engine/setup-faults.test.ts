import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { type SetupWorld, createSetupWorld } from './setup-world.ts';

let world: SetupWorld;
beforeAll(async () => {
  world = await createSetupWorld();
});
beforeEach(() => world.emptyCache());
afterAll(() => world.remove());

/** Nothing was published, nothing is left lying around, and a good set-up still works afterwards. */
async function expectOldStateAndRecovery(): Promise<void> {
  expect(world.list('addons')).toEqual([]);
  expect(world.list('staging')).toEqual([]);
  expect(await world.damage()).toEqual([]);
  expect((await world.run()).ok).toBe(true);
}

function published(part: 'libraries' | 'addons', file: string): string {
  return join(world.cache, 'engine', part, world.list(part)[0] ?? '', file);
}

/** Changes one byte in the middle, so that the size stays. */
function flipByte(path: string): void {
  const bytes = readFileSync(path);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 0xff;
  writeFileSync(path, bytes);
}

describe('a damaged wheel', () => {
  it('from the index is refused by its hash', async () => {
    const folder = join(world.folder, 'mirror');
    mkdirSync(folder, { recursive: true });
    const wrong = join(folder, world.tiny.recipe.wheel.file);
    cpSync(world.tiny.wheel, wrong);
    flipByte(wrong);
    const outcome = await world.run({ environment: { TINY_WHEEL: wrong } });
    expect(outcome).toMatchObject({ ok: false, stage: 'verify' });
    expect(outcome.message).toMatch(/must match the pin, expected sha256 \w{64}, got \w{64}/);
    await expectOldStateAndRecovery();
  });

  it('in the cache is downloaded again', async () => {
    await world.killAt('open libtensorflow_cc.so.2');
    world.ageLock();
    truncateSync(join(world.cache, 'engine', 'wheels', world.tiny.recipe.wheel.file), 1000);
    const outcome = await world.run();
    expect(outcome.ok).toBe(true);
    expect(outcome.output).toMatch(/the cached wheel is damaged \(expected \d+ bytes, got 1000\)/);
    expect(outcome.events).toContain('download');
  });

  it('given by hand is refused, a good one is taken without pip and not deleted', async () => {
    const wrong = join(world.folder, 'short.whl');
    writeFileSync(wrong, 'PK');
    const refused = await world.run({ wheel: wrong });
    expect(refused).toMatchObject({ ok: false, stage: 'verify' });
    expect(refused.message).toMatch(/expected \d+ bytes, got 2/);
    const taken = await world.run({ wheel: world.tiny.wheel, deny: ['python3', 'python'] });
    expect(taken.ok).toBe(true);
    expect(taken.events).not.toContain('download');
    expect(readFileSync(world.tiny.wheel)).toHaveLength(world.tiny.recipe.wheel.bytes);
  });
});

describe('a damaged cache', () => {
  beforeEach(async () => {
    expect((await world.run()).ok).toBe(true);
  });

  it('nothing to do when whole: no command runs, no file is opened', async () => {
    expect(await world.run()).toMatchObject({ ok: true, events: [], report: { changed: false } });
  });

  it('a truncated addon is compiled again, with the library that is there', async () => {
    truncateSync(published('addons', 'moebius.node'), 100);
    const outcome = await world.run();
    expect(outcome.report?.steps.map(({ name }) => name)).toEqual(['addon']);
    expect(await world.damage()).toEqual([]);
  });

  it('a truncated library is extracted again', async () => {
    truncateSync(published('libraries', 'libtensorflow_cc.so.2'), 100);
    const outcome = await world.run();
    expect(outcome.report?.steps.map(({ name }) => name)).toEqual(['library']);
    expect(await world.damage()).toEqual([]);
  });

  it('a missing header is noticed', async () => {
    truncateSync(published('libraries', 'include/tensorflow/c/tiny.h'), 0);
    expect((await world.run()).report?.changed).toBe(true);
  });

  it('an unreadable stamp counts as absent', async () => {
    writeFileSync(published('addons', 'stamp.json'), '{"schemaVersion":1');
    expect((await world.run()).report?.changed).toBe(true);
    expect(await world.damage()).toEqual([]);
  });

  it('a changed byte is found by the hashes when asked to verify', async () => {
    flipByte(published('libraries', 'libtensorflow_framework.so.2'));
    expect((await world.run()).report?.changed).toBe(false);
    expect((await world.run({ verify: true })).report?.changed).toBe(true);
    expect(await world.damage()).toEqual([]);
  });

  it('works offline when whole, and says what is missing when not', async () => {
    expect((await world.run({ deny: ['python3', 'python'] })).ok).toBe(true);
    truncateSync(published('libraries', 'libtensorflow_cc.so.2'), 100);
    expect(await world.run({ deny: ['python3', 'python'] })).toMatchObject({ ok: false, stage: 'download' });
    expect((await world.run()).ok).toBe(true);
  });
});

describe('a full disk', () => {
  it.each(['libtensorflow_cc.so.2', 'tiny.h', 'stamp.json'])(
    'while writing %s leaves the old state',
    async (file) => {
      const outcome = await world.run({ full: { file, afterBytes: 10 } });
      expect(outcome).toMatchObject({ ok: false, stage: 'extract' });
      expect(outcome.message).toMatch(/ENOSPC.*\(free about 1\.3 GB, or choose another cache folder/);
      await expectOldStateAndRecovery();
    },
  );

  it('under the compiler leaves the library and says so', async () => {
    const bin = join(world.folder, 'full-disk-bin');
    mkdirSync(bin, { recursive: true });
    const script =
      '#!/bin/sh\ncase "$*" in *--version*) echo g++ 99;; *) echo "fatal error: No space left on device" >&2; exit 1;; esac\n';
    writeFileSync(join(bin, 'g++'), script, { mode: 0o755 });
    const outcome = await world.run({
      environment: { PATH: `${join(world.folder, 'bin')}:${bin}:${process.env['PATH']}` },
    });
    expect(outcome).toMatchObject({ ok: false, stage: 'compile' });
    expect(outcome.message).toContain('free about 1.3 GB');
    expect(world.list('libraries')).toHaveLength(1);
    await expectOldStateAndRecovery();
  });
});

describe('missing tools', () => {
  it('no python: says what to install or give', async () => {
    const outcome = await world.run({ deny: ['python3', 'python'] });
    expect(outcome).toMatchObject({ ok: false, stage: 'download' });
    expect(outcome.message).toContain(
      'found no python3 with pip (apt install python3-pip, or give the wheel with --wheel)',
    );
    await expectOldStateAndRecovery();
  });

  it('python without pip: the same', async () => {
    const bin = join(world.folder, 'no-pip-bin');
    mkdirSync(bin, { recursive: true });
    for (const name of ['python3', 'python']) {
      writeFileSync(join(bin, name), `#!/bin/sh\necho "$0: No module named pip" >&2; exit 1\n`, {
        mode: 0o755,
      });
    }
    const outcome = await world.run({ environment: { PATH: `${bin}:${process.env['PATH']}` } });
    expect(outcome).toMatchObject({ ok: false, stage: 'download' });
    expect(outcome.message).toContain('found no python3 with pip');
    await expectOldStateAndRecovery();
  });

  it('no compiler: names those it looked for; the library is kept for the next try', async () => {
    const outcome = await world.run({ deny: ['g++', 'c++', 'clang++', 'zig'] });
    expect(outcome).toMatchObject({ ok: false, stage: 'compiler' });
    expect(outcome.message).toContain(
      'one of g++, c++, clang++, zig must be installed, found none (apt install g++',
    );
    expect(world.list('libraries')).toHaveLength(1);
    await expectOldStateAndRecovery();
  });

  it("only zig, whose C++ library is not TensorFlow's: an engine without kernels, and the reason", async () => {
    const bin = join(world.folder, 'zig-bin');
    mkdirSync(bin, { recursive: true });
    const real = execFileSync('sh', ['-c', 'command -v g++'], { encoding: 'utf8' }).trim();
    writeFileSync(join(bin, 'zig'), `#!/bin/sh\nshift\nexec "${real}" "$@"\n`, { mode: 0o755 });
    const path = `${join(world.folder, 'bin')}:${bin}:${process.env['PATH']}`;
    const outcome = await world.run({ deny: ['g++', 'c++', 'clang++'], environment: { PATH: path } });
    expect(outcome).toMatchObject({ ok: true, report: { fused: false } });
    expect(outcome.report?.fusedProblem).toContain("C++ library that is not TensorFlow's (install g++");
    expect(outcome.events).not.toContain('compile kernel.cc');
    expect(await world.damage()).toEqual([]);
  });

  it('kernels that do not compile: an engine without them, and the reason', async () => {
    const kernel = join(world.tiny.sources, 'kernel.cc');
    const good = readFileSync(kernel);
    try {
      writeFileSync(kernel, 'int broken( {\n');
      const outcome = await world.run();
      expect(outcome).toMatchObject({ ok: true, report: { fused: false } });
      expect(outcome.report?.fusedProblem).toMatch(/^kernel\.cc: must compile, got ".*error/);
      writeFileSync(kernel, good);
      expect((await world.run()).report).toMatchObject({ changed: true, fused: true });
    } finally {
      writeFileSync(kernel, good);
    }
  });

  it('kernels that do not load: an engine without them, and the reason', async () => {
    const kernel = join(world.tiny.sources, 'kernel.cc');
    const good = readFileSync(kernel);
    try {
      writeFileSync(kernel, 'int absent_symbol(); int used = absent_symbol();\n');
      const outcome = await world.run();
      expect(outcome).toMatchObject({ ok: true, report: { fused: false } });
      expect(outcome.report?.fusedProblem).toContain('absent_symbol');
    } finally {
      writeFileSync(kernel, good);
    }
  });
});

describe('no network', () => {
  it('with the real pip and a cold cache: the reason and what to do', async () => {
    const python = execFileSync('sh', ['-c', 'command -v python3'], { encoding: 'utf8' }).trim();
    const bin = join(world.folder, 'real-pip-bin');
    mkdirSync(bin, { recursive: true });
    const script = `#!/bin/sh\nexec "${python}" "$@"\n`;
    writeFileSync(join(bin, 'python3'), script, { mode: 0o755 });
    const environment = {
      PATH: `${bin}:${process.env['PATH']}`,
      PIP_NO_INDEX: '1',
      PIP_FIND_LINKS: '',
      FORCE_COLOR: '1',
    };
    const outcome = await world.run({ environment });
    expect(outcome).toMatchObject({ ok: false, stage: 'download' });
    expect(outcome.message).toMatch(
      /must be able to download it, got "ERROR: .*check the network and the package index/,
    );
    await expectOldStateAndRecovery();
  });
});

describe('a cache folder that cannot be written', () => {
  it('because a file is in the way', async () => {
    const file = join(world.folder, 'a-file');
    writeFileSync(file, '');
    const outcome = await world.run({ cacheFolder: join(file, 'cache') });
    expect(outcome).toMatchObject({ ok: false, stage: 'cache' });
    expect(outcome.message).toMatch(/must be a writable folder, got ENOTDIR/);
  });

  it('because of its permissions', async () => {
    const folder = join(world.folder, 'read-only');
    mkdirSync(folder, { recursive: true });
    chmodSync(world.folder, 0o755);
    chmodSync(folder, 0o555);
    // Permissions do not stop root: become nobody.
    const isRoot = process.getuid?.() === 0;
    const outcome = await world.run({
      cacheFolder: join(folder, 'cache'),
      ...(isRoot ? { uid: 65_534 } : {}),
    });
    expect(outcome).toMatchObject({ ok: false, stage: 'cache' });
    expect(outcome.message).toMatch(/EACCES.*\(make the cache folder writable, or choose another one/);
  });
});
