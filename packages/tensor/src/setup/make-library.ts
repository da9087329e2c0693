/** @file Makes the TensorFlow library folder: pinned wheel, checked, its few needed members extracted. */
import { constants, copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

import { messageOf, setupError } from './errors.ts';
import { type CacheLayout } from './layout.ts';
import { type SetupPorts } from './ports.ts';
import { createStaging, publishFolder } from './publish.ts';
import { extractWheel } from './extract-wheel.ts';
import { type LibraryRecipe } from './recipe.ts';
import { hashFile } from './stamp.ts';

const downloadTimeoutMs = 30 * 60_000;
const pythons: readonly string[] = ['python3', 'python'];

/** What {@link makeLibrary} is told besides the layout. */
export interface LibraryOptions {
  /** A wheel file that is already here, instead of a download. */
  readonly wheel?: string | undefined;
}

/**
 * Makes and publishes `layout.library`. Call it under the lock.
 *
 * @throws `engine` with stage `download`, `verify` or `extract`; nothing is published then
 */
export async function makeLibrary(
  layout: CacheLayout,
  recipe: LibraryRecipe,
  ports: SetupPorts,
  options: LibraryOptions = {},
): Promise<void> {
  const wheel = await obtainWheel(layout, recipe, ports, options);
  ports.report(`extracting TensorFlow ${recipe.tensorflow}`);
  const staging = await createStaging(layout.root, 'library');
  try {
    const files = await extractWheel(wheel, recipe, staging, ports);
    const missing = Object.values(recipe.libraries).filter((path) => files[path] === undefined);
    if (missing.length > 0) throw new Error(`the wheel lacks ${missing.join(', ')}`);
    const made = { tensorflow: recipe.tensorflow, wheel: recipe.wheel.file, sha256: recipe.wheel.sha256 };
    await publishFolder(staging, layout.library, { schemaVersion: 1, files, made }, ports);
  } catch (error) {
    throw setupError(
      'extract',
      `TensorFlow library: must be extracted into ${layout.libraries}, got ${messageOf(error)} (${remedyFor(error, 'run the set-up again')})`,
      error,
    );
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  await rm(join(layout.wheels, recipe.wheel.file), { force: true });
}

/** What to do about a file-system error. */
export function remedyFor(error: unknown, otherwise: string): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOSPC' || /no space left/i.test(messageOf(error))) {
    return 'free about 1.3 GB, or choose another cache folder, and run the set-up again';
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return 'make the cache folder writable, or choose another one with --cache or XDG_CACHE_HOME';
  }
  return otherwise;
}

async function obtainWheel(
  layout: CacheLayout,
  recipe: LibraryRecipe,
  ports: SetupPorts,
  options: LibraryOptions,
): Promise<string> {
  if (options.wheel !== undefined) {
    const wrong = await findWrongWheel(options.wheel, recipe);
    if (wrong === undefined) return options.wheel;
    throw setupError(
      'verify',
      `${options.wheel}: must be ${recipe.wheel.file}, ${wrong} (give the file that pip downloads)`,
    );
  }
  const cached = join(layout.wheels, recipe.wheel.file);
  if ((await stat(cached).catch(() => undefined)) !== undefined) {
    const wrong = await findWrongWheel(cached, recipe);
    if (wrong === undefined) return cached;
    ports.report(`the cached wheel is damaged (${wrong}): downloading it again`);
    await rm(cached, { force: true });
  }
  return downloadWheel(layout, recipe, ports);
}

async function findWrongWheel(path: string, recipe: LibraryRecipe): Promise<string | undefined> {
  const size = (await stat(path).catch(() => undefined))?.size;
  if (size === undefined) return 'got no such file';
  if (size !== recipe.wheel.bytes) return `expected ${recipe.wheel.bytes} bytes, got ${size}`;
  const sha256 = await hashFile(path);
  return sha256 === recipe.wheel.sha256 ? undefined : `expected sha256 ${recipe.wheel.sha256}, got ${sha256}`;
}

async function downloadWheel(layout: CacheLayout, recipe: LibraryRecipe, ports: SetupPorts): Promise<string> {
  const staging = await createStaging(layout.root, 'download');
  try {
    await pipDownload(staging, recipe, ports);
    const found = (await readdir(staging)).find((name) => name.endsWith('.whl'));
    const path = join(staging, found ?? recipe.wheel.file);
    const wrong = await findWrongWheel(path, recipe);
    if (wrong !== undefined) {
      throw setupError(
        'verify',
        `${recipe.wheel.file}: the download must match the pin, ${wrong} (an index or proxy changes files; give the right one with --wheel)`,
      );
    }
    await mkdir(layout.wheels, { recursive: true });
    const cached = join(layout.wheels, recipe.wheel.file);
    await rename(path, cached).catch(() => copyFile(path, cached, constants.COPYFILE_EXCL));
    return cached;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function pipDownload(target: string, recipe: LibraryRecipe, ports: SetupPorts): Promise<void> {
  ports.report(`downloading ${recipe.wheel.file} (${Math.round(recipe.wheel.bytes / 1e6)} MB) with pip`);
  const parameters = ['-m', 'pip', 'download', '--quiet', '--no-input', '--no-deps', '--no-cache-dir'];
  parameters.push(
    '--disable-pip-version-check',
    '--no-color',
    '--only-binary=:all:',
    ...recipe.wheel.pipArguments,
    '--dest',
    target,
  );
  let last = '';
  for (const python of pythons) {
    const result = await ports.run(python, parameters, { timeoutMs: downloadTimeoutMs });
    if (result.status === 0) return;
    if (result.failure === 'ENOENT') continue;
    last = (stripVTControlCharacters(result.output).trim() || result.failure) ?? '';
    if (/No module named pip/.test(last)) continue;
    break;
  }
  const reason = last.split('\n').at(-1) ?? '';
  if (last === '' || /No module named pip/.test(last)) {
    throw setupError(
      'download',
      `pip: must be installed to download ${recipe.wheel.file}, found no python3 with pip (apt install python3-pip, or give the wheel with --wheel)`,
    );
  }
  throw setupError(
    'download',
    `${recipe.wheel.file}: pip must be able to download it, got "${reason}" (${remedyFor(last, 'check the network and the package index, or give the wheel with --wheel')})`,
    undefined,
    { output: last.slice(-2_000) },
  );
}
