import { mkdir, mkdtemp, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { ownIdentity } from '../files/process-identity.ts';
import { publishOnce } from './publish.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-publish-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('publishOnce', () => {
  it('makes a thing once', async () => {
    const target = join(folder, 'deep', 'file');
    expect(await publishOnce(target, (temporary) => writeFile(temporary, 'first'))).toBe(true);
    expect(await publishOnce(target, (temporary) => writeFile(temporary, 'second'))).toBe(false);
    expect(await readFile(target, 'utf8')).toBe('first');
    expect(await readdir(join(folder, 'deep'))).toEqual(['file']);
  });

  it('shows nothing of a failed attempt, and can be tried again', async () => {
    const target = join(folder, 'thing');
    const failing = async (temporary: string): Promise<void> => {
      await mkdir(temporary);
      await writeFile(join(temporary, 'half'), 'half');
      throw new Error('stopped in the middle');
    };
    await expect(publishOnce(target, failing)).rejects.toThrow('stopped in the middle');
    expect(await readdir(folder)).toEqual([]);
    expect(await publishOnce(target, (temporary) => mkdir(temporary).then(() => undefined))).toBe(true);
  });

  it('removes what an attempt that was killed left behind', async () => {
    const target = join(folder, 'thing');
    await mkdir(`${target}.partial`);
    await writeFile(join(`${target}.partial`, 'old'), 'old');
    await publishOnce(target, async (temporary) => {
      await mkdir(temporary);
      await writeFile(join(temporary, 'new'), 'new');
    });
    expect(await readdir(target)).toEqual(['new']);
  });

  it('removes what killed attempts left under names of their own, and takes the lock of one that is gone', async () => {
    const target = join(folder, 'thing');
    const left = `${2 ** 22 + 3}-00000000-0000-4000-8000-000000000000.partial`;
    await writeFile(`${target}.${left}`, 'half');
    await writeFile(join(folder, `.thing.${left}.0.tmp`), 'half');
    const gone = { ...ownIdentity(), pid: 2 ** 22 + 3, started: 'long ago' };
    const id = '00000000-0000-4000-8000-000000000000';
    await writeFile(`${target}.lock`, JSON.stringify({ id, ...gone, command: 'making thing' }));
    await publishOnce(target, (temporary) => writeFile(temporary, 'new'));
    expect(await readdir(folder)).toEqual(['thing']);
  });

  it('shows a whole thing also when two make it at once, because a lock was lost', async () => {
    const target = join(folder, 'thing');
    const build = (content: string, release: () => Promise<void>) => async (temporary: string) => {
      await mkdir(temporary);
      await writeFile(join(temporary, 'a'), content);
      await release();
      await writeFile(join(temporary, 'b'), content);
    };
    const second = () =>
      publishOnce(
        target,
        build('second', async () => undefined),
      );
    const made = await publishOnce(
      target,
      build('first', async () => {
        await rm(`${target}.lock`);
        expect(await second()).toBe(true);
      }),
    );
    expect(made).toBe(false);
    for (const name of ['a', 'b']) expect(await readFile(join(target, name), 'utf8')).toBe('second');
    expect(await readdir(folder)).toEqual(['thing']);
  });

  it('does without the lock of another machine that is old, and waits for a young one', async () => {
    const target = join(folder, 'thing');
    const id = '00000000-0000-4000-8000-000000000000';
    const lock = JSON.stringify({ id, ...ownIdentity(), host: 'elsewhere', command: 'making thing' });
    await writeFile(`${target}.lock`, lock);
    let isMade = false;
    const making = publishOnce(target, (temporary) => writeFile(temporary, 'new')).then(
      () => (isMade = true),
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(isMade).toBe(false);
    await utimes(`${target}.lock`, 0, 0);
    await making;
    expect(await readFile(target, 'utf8')).toBe('new');
  });

  it('lets others wait instead of making it twice', async () => {
    const target = join(folder, 'thing');
    let builds = 0;
    const build = async (temporary: string): Promise<void> => {
      builds += 1;
      await new Promise((resolve) => setTimeout(resolve, 50));
      await writeFile(temporary, 'made');
    };
    const made = await Promise.all([
      publishOnce(target, build),
      publishOnce(target, build),
      publishOnce(target, build),
    ]);
    expect(builds).toBe(1);
    expect(made.filter(Boolean).length).toBe(1);
  });

  it('says which place cannot be written', async () => {
    await writeFile(join(folder, 'file'), '');
    const target = join(folder, 'file', 'below');
    await expect(publishOnce(target, async () => undefined)).rejects.toThrow(
      /cache: expected to write .*below, got .* \(free space, or choose another cache folder\)/,
    );
  });
});
