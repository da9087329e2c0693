/** @file Bundles a test program so that a plain `node` of any supported version can run it as a process of its own. */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const testFolder = dirname(dirname(fileURLToPath(import.meta.url)));
/** Below the package, so that its dependencies are found; below node_modules, so that git does not see it. */
const target = join(testFolder, '..', 'node_modules', '.moebius-test');

/**
 * Bundles `test/<folder>/<name>.ts` with our own packages inside and all others outside.
 *
 * @returns path of the bundle; one per calling process, removed when it ends
 */
export async function bundleForNode(name: string, folder: string = 'engine'): Promise<string> {
  mkdirSync(target, { recursive: true });
  const outfile = join(target, `${name}-${process.pid}.mjs`);
  process.once('exit', () => rmSync(outfile, { force: true }));
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
