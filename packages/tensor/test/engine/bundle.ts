/** @file Bundles a test program so that a plain `node` of any supported version can run it as a process of its own. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { isAlive } from '../../src/setup/publish.ts';

const testFolder = dirname(dirname(fileURLToPath(import.meta.url)));
/** Below the package, so that its dependencies are found; below node_modules, so that git does not see it. */
const target = join(testFolder, '..', 'node_modules', '.moebius-test');

/**
 * Bundles `test/<folder>/<name>.ts` with our own packages inside and all others outside.
 *
 * @returns path of the bundle; one per calling process; those of ended processes are removed
 */
export async function bundleForNode(name: string, folder: string = 'engine'): Promise<string> {
  mkdirSync(target, { recursive: true });
  const outfile = join(target, `${name}-${process.pid}.mjs`);
  for (const left of readdirSync(target)) {
    if (!isAlive(Number(/-(\d+)\.mjs$/.exec(left)?.[1]))) rmSync(join(target, left), { force: true });
  }
  await build({
    entryPoints: [join(testFolder, folder, `${name}.ts`)],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    conditions: ['@moebius/source'],
    external: ['@tensorflow/*', 'yauzl', 'proper-lockfile', 'commander', 'jasmine-core'],
    logLevel: 'warning',
  });
  return outfile;
}
