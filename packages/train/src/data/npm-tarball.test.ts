import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { create } from 'tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { ensureNpmFiles } from './npm-tarball.ts';
import type { NpmFiles, TarballDownload } from './npm-tarball.ts';

let folder = '';
let tarball: Buffer = Buffer.alloc(0);
let files: NpmFiles;
let caches = 0;
const freshCache = (): string => join(folder, `cache-${caches++}`);
const offline: TarballDownload = () =>
  Promise.reject(
    Object.assign(new Error('Command failed'), {
      stderr: 'npm error code ENOTFOUND\nnpm error network request failed\n',
    }),
  );

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'moebius-npm-'));
  const inside = join(folder, 'package', 'data');
  await mkdir(join(inside, 'deep'), { recursive: true });
  await writeFile(join(inside, 'one.txt'), 'one');
  await writeFile(join(inside, 'deep', 'two.txt'), 'two');
  await writeFile(join(inside, 'three.json'), '3');
  await writeFile(join(folder, 'package', 'index.txt'), 'outside of data');
  await symlink('/etc/hostname', join(inside, 'link.txt'));
  await create({ gzip: true, file: join(folder, 'made.tgz'), cwd: folder }, ['package']);
  tarball = await readFile(join(folder, 'made.tgz'));
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  files = { package: '@scope/texts', version: '1.0.0', integrity, folder: 'data', extension: '.txt' };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const online: TarballDownload = (_, target) => writeFile(join(target, 'scope-texts-1.0.0.tgz'), tarball);

describe('ensureNpmFiles', () => {
  it('unpacks the text files of the data folder and nothing else', async () => {
    const made = await ensureNpmFiles(files, freshCache(), online);
    expect((await readdir(made, { recursive: true })).toSorted()).toEqual([
      'deep',
      join('deep', 'two.txt'),
      'one.txt',
    ]);
    expect(await readFile(join(made, 'one.txt'), 'utf8')).toBe('one');
  });

  it('leaves out the files it is told to, in a folder of its own', async () => {
    const cache = freshCache();
    const whole = await ensureNpmFiles(files, cache, online);
    const part = await ensureNpmFiles({ ...files, except: ['one.txt'] }, cache, offline);
    expect(part).not.toBe(whole);
    expect(await readdir(part)).toEqual(['deep']);
  });

  it('needs no network the second time', async () => {
    const cache = freshCache();
    const first = await ensureNpmFiles(files, cache, online);
    expect(await ensureNpmFiles(files, cache, offline)).toBe(first);
  });

  it('says offline what failed and what to do, and leaves nothing behind', async () => {
    const cache = freshCache();
    await expect(ensureNpmFiles(files, cache, offline)).rejects.toThrow(
      /corpus @scope\/texts@1\.0\.0: expected to fetch it once with "npm pack", got npm error code ENOTFOUND \(connect once; or run "npm pack @scope\/texts@1\.0\.0" elsewhere and put the file at .*downloads.scope-texts-1\.0\.0\.tgz/,
    );
    const left = await readdir(cache, { recursive: true });
    expect(left.filter((name) => name.includes('texts'))).toEqual([]);
  });

  it('takes a tarball that was put into the cache by hand', async () => {
    const cache = freshCache();
    await mkdir(join(cache, 'downloads'), { recursive: true });
    await writeFile(join(cache, 'downloads', 'scope-texts-1.0.0.tgz'), tarball);
    expect(await readdir(await ensureNpmFiles(files, cache, offline))).toContain('one.txt');
  });

  it('refuses a tarball that is not the pinned one, and can be tried again', async () => {
    const cache = freshCache();
    const wrong: TarballDownload = (_, target) => writeFile(join(target, 'x.tgz'), tarball.subarray(0, 100));
    await expect(ensureNpmFiles(files, cache, wrong)).rejects.toThrow(
      /must have integrity sha512-.*, got sha512-/,
    );
    expect(await readdir(await ensureNpmFiles(files, cache, online))).toContain('one.txt');
  });

  it('fetches once when two ask at the same time', async () => {
    let downloads = 0;
    const counting: TarballDownload = (specifier, target) => {
      downloads += 1;
      return online(specifier, target);
    };
    const cache = freshCache();
    const both = await Promise.all([
      ensureNpmFiles(files, cache, counting),
      ensureNpmFiles(files, cache, counting),
    ]);
    expect(both[0]).toBe(both[1]);
    expect(downloads).toBe(1);
  });
});
